-- What keeps rows from being pruned, and what a pruning under way needs to know.

-- Up to where somebody has read who reads by LOG_SEQ: rows above it stay until the reader has said more.
CREATE TABLE ENGINE_LOG_WATERMARK (
    NAME VARCHAR(100) NOT NULL PRIMARY KEY,
    -- All rows up to this one, itself included, are read.
    LOG_SEQ BIGINT NOT NULL,
    -- When the reader last read on, or said that there was no more; UTC, whatever the log stores.
    DT_MOVED DATETIME NOT NULL
);

-- Recordings too large to be deleted in one short transaction. Each stands here from the first of its rows that
-- is deleted to the last, so that whoever prunes next brings to an end what was broken off.
CREATE TABLE ENGINE_LOG_PRUNING (
    RECORDING_ID BIGINT NOT NULL PRIMARY KEY,
    -- Rows of it up to this one go; what came later was logged since.
    LOG_SEQ BIGINT NOT NULL
);

-- A connection stays as long as a recording that came over it. Recordings are few.
CREATE INDEX ENGINE_DB_LOG_RECORDING_CONFIG_CONNECTION ON ENGINE_DB_LOG_RECORDING_CONFIG (WEBSOCKET_CONNECTION_ID);
