/*
 * Make system calls fail, and clocks go wrong, in an engine: loaded into it by LD_PRELOAD, see faults.py.
 *
 * What fails stands in a file that the attacker has mapped, too: FAULTS_CONTROL. Only files whose path
 * begins with FAULTS_FOLDER are meant; all others, and pipes, are left alone. It also counts there what SQLite
 * has written to the disk, and in what order.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

struct control {
    _Atomic int64_t operations;   /* a bit for each that may fail */
    _Atomic int64_t error;        /* with this */
    _Atomic int64_t per_mille;    /* so often */
    _Atomic int64_t injected;     /* how often it did */
    _Atomic int64_t clock_offset; /* milliseconds added to the wall clock */
    /* What was written and synced of databases (*.db) and their WALs: whether a power failure could hurt. */
    _Atomic int64_t wal_syncs;
    _Atomic int64_t database_syncs;
    _Atomic int64_t wal_is_dirty;
    _Atomic int64_t database_is_dirty;
    _Atomic int64_t out_of_order; /* written to the one before the other was synced */
};

enum { WRITE = 1, SYNC = 2, TRUNCATE = 4, MAP = 8, ALLOCATE = 16, CREATE = 32, READ = 64, REMOVE = 128 };

static struct control *control;
static const char *folder;
static _Atomic uint64_t dice = 88172645463325252ULL;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_CONTROL");
    folder = getenv("FAULTS_FOLDER");
    if (!path || !folder) return;
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int file = real_open(path, O_RDWR);
    if (file < 0) return;
    void *(*real_mmap)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, "mmap");
    void *map = real_mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED) control = map;
}

static int thrown(int operation) {
    if (!control || !(control->operations & operation)) return 0;
    uint64_t x = dice;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    dice = x;
    return (int64_t)(x % 1000) < control->per_mille;
}

static int fail(void) {
    control->injected++;
    errno = (int)control->error;
    return 1;
}

static int is_meant(const char *path) { return path && !strncmp(path, folder, strlen(folder)); }

static int fails_at_path(int operation, const char *path) {
    return thrown(operation) && is_meant(path) && fail();
}

static int has_path(int file, char path[4096]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, 4095);
    if (size < 0) return 0;
    path[size] = 0;
    return is_meant(path);
}

static int fails(int operation, int file) {
    char path[4096];
    return file >= 0 && thrown(operation) && has_path(file, path) && fail();
}

static int ends_with(const char *path, const char *end) {
    size_t size = strlen(path), length = strlen(end);
    return size >= length && !strcmp(path + size - length, end);
}

static ssize_t note_write(int file, off64_t at, ssize_t written) {
    char path[4096];
    if (!control || written <= 0 || !has_path(file, path)) return written;
    if (ends_with(path, ".db-wal")) {
        /* Its begin: what was in it before is given up, so it must be in the database, on the disk. */
        control->out_of_order += at == 0 && control->database_is_dirty;
        control->wal_is_dirty = 1;
    } else if (ends_with(path, ".db")) {
        control->out_of_order += control->wal_is_dirty;
        control->database_is_dirty = 1;
    }
    return written;
}

static int note_sync(int file, int result) {
    char path[4096];
    if (!control || result || !has_path(file, path)) return result;
    if (ends_with(path, ".db-wal"))
        control->wal_syncs++, control->wal_is_dirty = 0;
    else if (ends_with(path, ".db"))
        control->database_syncs++, control->database_is_dirty = 0;
    return result;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int file, const void *data, size_t size) {
    REAL(write);
    return fails(WRITE, file) ? -1 : real(file, data, size);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    REAL(pwrite);
    return fails(WRITE, file) ? -1 : note_write(file, at, real(file, data, size, at));
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    return fails(WRITE, file) ? -1 : note_write(file, at, real(file, data, size, at));
}
ssize_t pread(int file, void *data, size_t size, off_t at) {
    REAL(pread);
    return fails(READ, file) ? -1 : real(file, data, size, at);
}
ssize_t pread64(int file, void *data, size_t size, off64_t at) {
    REAL(pread64);
    return fails(READ, file) ? -1 : real(file, data, size, at);
}
int fsync(int file) {
    REAL(fsync);
    return fails(SYNC, file) ? -1 : note_sync(file, real(file));
}
int fdatasync(int file) {
    REAL(fdatasync);
    return fails(SYNC, file) ? -1 : note_sync(file, real(file));
}
int ftruncate(int file, off_t size) {
    REAL(ftruncate);
    return fails(TRUNCATE, file) ? -1 : real(file, size);
}
int ftruncate64(int file, off64_t size) {
    REAL(ftruncate64);
    return fails(TRUNCATE, file) ? -1 : real(file, size);
}
/* These two return the error. */
int posix_fallocate(int file, off_t at, off_t size) {
    REAL(posix_fallocate);
    return fails(ALLOCATE, file) ? errno : real(file, at, size);
}
int posix_fallocate64(int file, off64_t at, off64_t size) {
    REAL(posix_fallocate64);
    return fails(ALLOCATE, file) ? errno : real(file, at, size);
}
void *mmap(void *at, size_t size, int access, int flags, int file, off_t offset) {
    REAL(mmap);
    return fails(MAP, file) ? MAP_FAILED : real(at, size, access, flags, file, offset);
}
void *mmap64(void *at, size_t size, int access, int flags, int file, off64_t offset) {
    REAL(mmap64);
    return fails(MAP, file) ? MAP_FAILED : real(at, size, access, flags, file, offset);
}
int unlink(const char *path) {
    REAL(unlink);
    return fails_at_path(REMOVE, path) ? -1 : real(path);
}
int rename(const char *from, const char *to) {
    REAL(rename);
    return fails_at_path(REMOVE, from) ? -1 : real(from, to);
}
int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return fails_at_path(CREATE, path) ? -1 : real(path, mode);
}

#define OPENING(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT))
#define MODE(flags, last) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, last); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) {
    REAL(open);
    MODE(flags, flags)
    return OPENING(flags) && fails_at_path(CREATE, path) ? -1 : real(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    REAL(open64);
    MODE(flags, flags)
    return OPENING(flags) && fails_at_path(CREATE, path) ? -1 : real(path, flags, mode);
}

static void shift(time_t *seconds, long *nanoseconds) {
    if (!control || !control->clock_offset) return;
    int64_t offset = control->clock_offset;
    *seconds += offset / 1000;
    *nanoseconds += offset % 1000 * 1000000;
    if (*nanoseconds >= 1000000000) *nanoseconds -= 1000000000, (*seconds)++;
    if (*nanoseconds < 0) *nanoseconds += 1000000000, (*seconds)--;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    int result = real(clock, now);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        shift(&now->tv_sec, &now->tv_nsec);
    return result;
}
time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec, now->tv_usec = exact.tv_nsec / 1000;
    return result;
}
