-- What the machine is busy with. The engine measures it up to ten times a second.
--
-- ID is the number that the old engine's rows have; others have none. There is no index on time, as for the
-- other tables that only grow: DT_ADDED grows with LOG_SEQ, so a span of time is a range of LOG_SEQ.

CREATE TABLE ENGINE_DB_LOG_RESOURCE_MONITOR (
    ID BIGINT,
    DT_MEASUREMENT DATETIME,
    CPU_PERCENT REAL,
    MEMORY_PERCENT REAL,
    DISK_IO_TOTAL_BYTES BIGINT,
    THREAD_COUNT BIGINT,
    MEMORY_AVAILABLE_GB REAL,
    DT_ADDED DATETIME,
    ENGINE_RUN_ID BIGINT,
    LOG_SEQ BIGINT
);
CREATE INDEX ENGINE_DB_LOG_RESOURCE_MONITOR_SEQ ON ENGINE_DB_LOG_RESOURCE_MONITOR (LOG_SEQ);
