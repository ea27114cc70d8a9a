-- Old files that `enginelog import` brought over, by the first of the runs that it made of each.
CREATE TABLE ENGINE_LOG_IMPORT (
    ENGINE_RUN_ID BIGINT NOT NULL PRIMARY KEY,
    OLD_FILE_NAME VARCHAR(255),
    DT_IMPORTED DATETIME,
    -- JSON: how far each table is read, and what became of its rows. Set in the transaction of the rows:
    -- so none is brought over twice, and none is left out, however often an import is broken off.
    PROGRESS TEXT
);
