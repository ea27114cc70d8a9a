-- What was saved when the file was damaged, so that everybody knows why rows are missing.
CREATE TABLE ENGINE_LOG_SALVAGE (
    -- UTC, whatever the log stores.
    DT_SALVAGED DATETIME NOT NULL,
    DAMAGED_FILE_NAME VARCHAR(255),
    ROWS_SAVED BIGINT NOT NULL,
    -- Rows of the log that are lost; NULL if that isn't known, as ENGINE_LOG_RUN was damaged, too.
    ROWS_LOST BIGINT,
    -- Other tables of which something may be lost, separated by spaces.
    TABLES_DAMAGED VARCHAR(500)
);
