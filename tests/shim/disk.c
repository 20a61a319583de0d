/*
 * A disk that remembers and fails: a library for LD_PRELOAD, between a server and the C library.
 *
 * For files and directories below one directory it
 *   - appends every operation that changes the disk, with data and offsets, to a trace file;
 *   - fails on demand, as the control file says.
 *
 * Environment (all three needed, else it does nothing):
 *   DISK_SHIM_ROOT     the directory, absolute and without symbolic links
 *   DISK_SHIM_TRACE    the trace file, outside of the directory; appended to
 *   DISK_SHIM_CONTROL  the control file, 64 bytes, mapped: see `struct control`
 *
 * The order of the trace is the order on the disk: an operation and its record happen under one
 * mutex. Syncs are the exception, for they take long and others must not wait: their beginning and
 * their end are recorded, and a sync covers only what was recorded before its beginning.
 *
 * An operation that is not understood is recorded as ESCAPE, and whoever reads the trace must fail.
 * What the C library does without its own exported functions is not seen (stdio, mappings); the tests
 * prove that nothing is missing by comparing the directory with what the trace makes of it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- The trace -------------------------------------------------------------------------------- */

/* Numbers are those of `tests/it/support/trace.rs`. */
enum kind {
    CREATE = 1,      /* file, name */
    MAKE_DIR = 2,    /* file, name */
    RENAME = 3,      /* name, to */
    LINK = 4,        /* name, to */
    UNLINK = 5,      /* name */
    REMOVE_DIR = 6,  /* name */
    WRITE = 7,       /* file, offset, length, data unless `flags` says that all of it is zero */
    TRUNCATE = 8,    /* file, length */
    ALLOCATE = 9,    /* file, offset, length, mode in `flags` */
    SYNC_BEGIN = 10, /* file, number in offset */
    SYNC_END = 11,   /* file, number in offset */
    SYNC_FAILED = 12,/* file, number in offset */
    ESCAPE = 13      /* what, in name */
};

#define ZERO 1u

/* Files are named by inode: they keep it over renames and over servers. */
struct header {
    uint32_t kind;
    uint32_t flags;
    uint32_t name_bytes;
    uint32_t to_bytes;
    uint64_t file;
    uint64_t offset;
    uint64_t length;
};

/* ---- The control file ------------------------------------------------------------------------- */

/* The test writes it while the server runs. Counters count down here. */
struct control {
    uint32_t sync_error;  /* errno; 0: syncs succeed */
    uint32_t sync_after;  /* syncs that still succeed */
    uint32_t sync_times;  /* syncs that then fail; UINT32_MAX: all */
    uint32_t space_error; /* errno for what takes space: writes, allocation, new names */
    uint32_t space_after;
    uint32_t space_times;
    uint32_t read_only;   /* not 0: everything that changes anything fails with EROFS */
    uint32_t no_sync;     /* not 0: syncs succeed, do nothing and are not recorded */
    uint32_t injected;    /* faults so far; written here */
    uint32_t halt;        /* not 0: the process is killed, between two operations */
    uint32_t sync_us;     /* microseconds that each sync takes longer: a slow disk */
};

#define FDS_MAX 65536

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_bytes;
static int trace = -1;
static volatile struct control *control;
static uint64_t syncs;
static dev_t device;
/* Inode of an open file below the root, by descriptor; 0: not ours. */
static volatile uint64_t inodes[FDS_MAX];

/* ---- The real functions ----------------------------------------------------------------------- */

#define REAL(name) static __typeof__(&name) real_##name
REAL(open); REAL(openat); REAL(close); REAL(dup); REAL(dup2); REAL(dup3); REAL(fcntl64);
REAL(writev); REAL(pwritev); REAL(ftruncate); REAL(truncate); REAL(fallocate); REAL(posix_fallocate);
REAL(fsync); REAL(fdatasync); REAL(sync_file_range); REAL(renameat2); REAL(linkat); REAL(unlinkat);
REAL(mkdirat); REAL(symlinkat);
REAL(copy_file_range); REAL(sendfile64); REAL(splice);
#undef REAL

/* Called by the constructor and, should another library's constructor open files, before it. */
static void find(void)
{
    static volatile int found;
    if (found)
        return;
#define REAL(name) real_##name = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
    REAL(open); REAL(openat); REAL(close); REAL(dup); REAL(dup2); REAL(dup3); REAL(fcntl64);
    REAL(writev); REAL(pwritev); REAL(ftruncate); REAL(truncate); REAL(fallocate); REAL(posix_fallocate);
    REAL(fsync); REAL(fdatasync); REAL(sync_file_range); REAL(renameat2); REAL(linkat); REAL(unlinkat);
    REAL(mkdirat); REAL(symlinkat);
    REAL(copy_file_range); REAL(sendfile64); REAL(splice);
#undef REAL
    if (!real_fcntl64)
        real_fcntl64 = (__typeof__(&fcntl))dlsym(RTLD_NEXT, "fcntl");
    found = 1;
}

static void *watch(void *unused);

static void die(const char *what)
{
    fprintf(stderr, "disk shim: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void begin(void)
{
    find();
    const char *directory = getenv("DISK_SHIM_ROOT");
    const char *trace_file = getenv("DISK_SHIM_TRACE");
    const char *control_file = getenv("DISK_SHIM_CONTROL");
    if (!directory || !trace_file || !control_file)
        return;
    struct stat found;
    if (stat(directory, &found) != 0)
        die("DISK_SHIM_ROOT");
    device = found.st_dev;
    trace = real_open(trace_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (trace < 0)
        die("DISK_SHIM_TRACE");
    int file = real_open(control_file, O_RDWR | O_CLOEXEC);
    if (file < 0)
        die("DISK_SHIM_CONTROL");
    void *map = mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED)
        die("DISK_SHIM_CONTROL");
    real_close(file);
    control = map;
    root_bytes = strlen(directory);
    memcpy(root, directory, root_bytes + 1);
    /* Signals are for the server's own threads. */
    sigset_t all, before;
    pthread_t watcher;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&watcher, NULL, watch, NULL) != 0)
        die("thread");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void lock(void) { pthread_mutex_lock(&mutex); }

/* Keeps `errno`, which belongs to the operation. */
static void unlock(void)
{
    int kept = errno;
    pthread_mutex_unlock(&mutex);
    errno = kept;
}

/* A kill from outside could fall between an operation and its record. This one cannot. */
static void *watch(void *unused)
{
    (void)unused;
    while (!control->halt)
        usleep(1000);
    lock();
    kill(getpid(), SIGKILL);
    return NULL;
}

/* Nor can the end of the process. */
__attribute__((destructor)) static void end(void)
{
    if (control)
        lock();
}

static int is_zero(const struct iovec *parts, int count)
{
    for (int i = 0; i < count; i++) {
        const char *at = parts[i].iov_base;
        size_t n = parts[i].iov_len;
        if (n && (at[0] || memcmp(at, at + 1, n - 1)))
            return 0;
    }
    return 1;
}

/* Appends one record; the caller holds the mutex. */
static void record(struct header header, const char *name, const char *to, const struct iovec *data,
                   int count)
{
    int kept = errno;
    struct iovec parts[3 + 64];
    int n = 3;
    header.name_bytes = name ? strlen(name) : 0;
    header.to_bytes = to ? strlen(to) : 0;
    parts[0] = (struct iovec){&header, sizeof header};
    parts[1] = (struct iovec){(void *)name, header.name_bytes};
    parts[2] = (struct iovec){(void *)to, header.to_bytes};
    if (header.kind == WRITE && is_zero(data, count))
        header.flags = ZERO;
    else
        for (int i = 0; i < count; i++)
            parts[n++] = data[i];
    struct iovec *at = parts;
    while (n > 0) {
        ssize_t done = real_writev(trace, at, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            die("trace");
        while (n > 0 && (size_t)done >= at->iov_len) {
            done -= at->iov_len;
            at++;
            n--;
        }
        if (n > 0) {
            at->iov_base = (char *)at->iov_base + done;
            at->iov_len -= done;
        }
    }
    errno = kept;
}

static void escape(const char *what)
{
    record((struct header){.kind = ESCAPE}, what, NULL, NULL, 0);
}

/* ---- What is ours ----------------------------------------------------------------------------- */

/* Writes the absolute path without `.`, `..` and `//`; whether it is below the root. */
static int is_ours(int directory, const char *path, char *absolute)
{
    char joined[2 * PATH_MAX + 2];
    if (!control || !path || strlen(path) >= PATH_MAX)
        return 0;
    if (path[0] == '/') {
        strcpy(joined, path);
    } else if (directory == AT_FDCWD) {
        if (!getcwd(joined, PATH_MAX))
            return 0;
        strcat(strcat(joined, "/"), path);
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
        ssize_t n = readlink(link, joined, PATH_MAX - 1);
        if (n < 0)
            return 0;
        joined[n] = 0;
        strcat(strcat(joined, "/"), path);
    }
    size_t end = 0;
    char *rest = joined, *part;
    while ((part = strsep(&rest, "/"))) {
        size_t n = strlen(part);
        if (n == 0 || !strcmp(part, "."))
            continue;
        if (!strcmp(part, "..")) {
            while (end > 0 && absolute[--end] != '/')
                ;
            continue;
        }
        if (end + n + 2 >= PATH_MAX)
            return 0;
        absolute[end++] = '/';
        memcpy(absolute + end, part, n);
        end += n;
    }
    absolute[end] = 0;
    return !strncmp(absolute, root, root_bytes) &&
           (absolute[root_bytes] == '/' || absolute[root_bytes] == 0);
}

/* The inode behind a descriptor, 0 when it is not ours. The C library may have closed a descriptor
 * without our seeing it and given its number to something else, so the inode is compared. */
static uint64_t inode_of(int fd)
{
    if (!control || fd < 0 || fd >= FDS_MAX || !inodes[fd])
        return 0;
    struct stat found;
    int kept = errno;
    if (fstat(fd, &found) != 0 || found.st_ino != inodes[fd] || found.st_dev != device)
        inodes[fd] = 0;
    errno = kept;
    return inodes[fd];
}

static void copied(int from, int to)
{
    if (from >= 0 && from < FDS_MAX && to >= 0 && to < FDS_MAX)
        inodes[to] = inodes[from];
}

/* ---- Faults ----------------------------------------------------------------------------------- */

/* Each returns whether the operation must fail, with `errno` set; the caller holds the mutex. */

static int fails(volatile uint32_t *error, volatile uint32_t *after, volatile uint32_t *times)
{
    if (!*error)
        return 0;
    if (*after) {
        --*after;
        return 0;
    }
    if (!*times)
        return 0;
    if (*times != UINT32_MAX)
        --*times;
    control->injected++;
    errno = *error;
    return 1;
}

static int sync_fails(void)
{
    return fails(&control->sync_error, &control->sync_after, &control->sync_times);
}

/* For what changes names and sizes and takes no space. */
static int change_fails(void)
{
    if (!control->read_only)
        return 0;
    control->injected++;
    errno = EROFS;
    return 1;
}

static int space_fails(void)
{
    return change_fails() ||
           fails(&control->space_error, &control->space_after, &control->space_times);
}

/* A full disk takes the first page of a long write, and fails the next one. */
static uint64_t full_for;

/* Bytes of this write that the disk still takes; 0: it fails. */
static size_t room_for(uint64_t file, size_t wanted)
{
    if (full_for == file) {
        full_for = 0;
        errno = control->space_error ? control->space_error : ENOSPC;
        return 0;
    }
    if (!space_fails())
        return wanted;
    if (wanted <= 4096 || control->read_only)
        return 0;
    full_for = file;
    return 4096;
}

/* ---- Opening and closing ---------------------------------------------------------------------- */

static int open_at(int directory, const char *path, int flags, mode_t mode)
{
    char absolute[PATH_MAX];
    find();
    if (!is_ours(directory, path, absolute))
        return real_openat(directory, path, flags, mode);
    int changes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    struct stat before, after;
    lock();
    int existed = fstatat(directory, path, &before, 0) == 0;
    int creates = !existed && (flags & O_CREAT);
    int fd = -1;
    if (!(changes && change_fails()) && !(creates && space_fails()))
        fd = real_openat(directory, path, flags, mode);
    if (fd >= FDS_MAX)
        die("too many descriptors");
    if (fd >= 0 && fstat(fd, &after) == 0) {
        inodes[fd] = after.st_ino;
        if ((flags & O_TMPFILE) == O_TMPFILE)
            escape("O_TMPFILE");
        if (creates)
            record((struct header){.kind = CREATE, .file = after.st_ino}, absolute, NULL, NULL, 0);
        else if ((flags & O_TRUNC) && before.st_size > 0)
            record((struct header){.kind = TRUNCATE, .file = after.st_ino}, NULL, NULL, NULL, 0);
    }
    unlock();
    return fd;
}

#define MODE(last)                               \
    mode_t mode = 0;                             \
    if (flags & (O_CREAT | __O_TMPFILE)) {       \
        va_list rest;                            \
        va_start(rest, last);                    \
        mode = va_arg(rest, mode_t);             \
        va_end(rest);                            \
    }

int open(const char *path, int flags, ...)
{
    MODE(flags)
    return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE(flags)
    return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int openat(int directory, const char *path, int flags, ...)
{
    MODE(flags)
    return open_at(directory, path, flags, mode);
}

int openat64(int directory, const char *path, int flags, ...)
{
    MODE(flags)
    return open_at(directory, path, flags | O_LARGEFILE, mode);
}

int creat(const char *path, mode_t mode)
{
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int creat64(const char *path, mode_t mode)
{
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC | O_LARGEFILE, mode);
}

int close(int fd)
{
    find();
    /* Before: after it the number may be another thread's. */
    if (fd >= 0 && fd < FDS_MAX)
        inodes[fd] = 0;
    return real_close(fd);
}

int dup(int fd)
{
    find();
    int to = real_dup(fd);
    copied(fd, to);
    return to;
}

int dup2(int fd, int wanted)
{
    find();
    int to = real_dup2(fd, wanted);
    copied(fd, to);
    return to;
}

int dup3(int fd, int wanted, int flags)
{
    find();
    int to = real_dup3(fd, wanted, flags);
    copied(fd, to);
    return to;
}

/* `File::try_clone` is `fcntl(F_DUPFD_CLOEXEC)`. Every third argument fits a pointer. */
static int fcntl_any(int fd, int command, void *argument)
{
    find();
    int outcome = real_fcntl64(fd, command, argument);
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
        copied(fd, outcome);
    return outcome;
}

#define ARGUMENT(last)                       \
    va_list rest;                            \
    va_start(rest, last);                    \
    void *argument = va_arg(rest, void *);   \
    va_end(rest);

int fcntl(int fd, int command, ...)
{
    ARGUMENT(command)
    return fcntl_any(fd, command, argument);
}

int fcntl64(int fd, int command, ...)
{
    ARGUMENT(command)
    return fcntl_any(fd, command, argument);
}

/* ---- Writing ---------------------------------------------------------------------------------- */

#define HERE (-1)

static ssize_t write_at(int fd, const struct iovec *parts, int count, off64_t offset)
{
    struct iovec written[64];
    find();
    if (!control || fd < 0 || fd >= FDS_MAX || !inodes[fd])
        return offset == HERE ? real_writev(fd, parts, count) : real_pwritev(fd, parts, count, offset);
    if (count > 64)
        count = 64; /* a short write, which callers must expect */
    lock();
    uint64_t file = inode_of(fd);
    ssize_t done = -1;
    size_t room = 0, wanted = 0;
    for (int i = 0; i < count; i++)
        wanted += parts[i].iov_len;
    room = file && wanted ? room_for(file, wanted) : wanted;
    if (room < wanted && room > 0) {
        written[0] = parts[0];
        if (written[0].iov_len > room)
            written[0].iov_len = room;
        parts = written;
        count = 1;
    }
    if (room > 0 || wanted == 0)
        done = offset == HERE ? real_writev(fd, parts, count) : real_pwritev(fd, parts, count, offset);
    if (file && done > 0) {
        struct stat after;
        off64_t at = offset;
        if (real_fcntl64(fd, F_GETFL) & O_APPEND)
            at = fstat(fd, &after) == 0 ? after.st_size - done : -1;
        else if (offset == HERE)
            at = lseek64(fd, 0, SEEK_CUR) - done;
        size_t left = done;
        int n = 0;
        for (; n < count && left > 0; n++) {
            written[n] = parts[n];
            if (written[n].iov_len > left)
                written[n].iov_len = left;
            left -= written[n].iov_len;
        }
        struct header header = {.kind = WRITE, .file = file, .offset = at, .length = done};
        record(header, NULL, NULL, written, n);
    }
    unlock();
    return done;
}

#define ONE (&(struct iovec){(void *)bytes, count}), 1

ssize_t write(int fd, const void *bytes, size_t count) { return write_at(fd, ONE, HERE); }
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return write_at(fd, ONE, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) { return write_at(fd, ONE, at); }
ssize_t writev(int fd, const struct iovec *parts, int count) { return write_at(fd, parts, count, HERE); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return write_at(fd, parts, count, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { return write_at(fd, parts, count, at); }

/* Copies inside the kernel would pass us by; callers fall back to reading and writing. */

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t count, unsigned flags)
{
    find();
    if (inode_of(to)) {
        errno = ENOSYS;
        return -1;
    }
    return real_copy_file_range(from, from_at, to, to_at, count, flags);
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t count)
{
    find();
    if (inode_of(to)) {
        errno = EINVAL;
        return -1;
    }
    return real_sendfile64(to, from, at, count);
}

ssize_t sendfile(int to, int from, off_t *at, size_t count) { return sendfile64(to, from, at, count); }

ssize_t splice(int from, off64_t *from_at, int to, off64_t *to_at, size_t count, unsigned flags)
{
    find();
    if (inode_of(to)) {
        errno = EINVAL;
        return -1;
    }
    return real_splice(from, from_at, to, to_at, count, flags);
}

/* ---- Sizes ------------------------------------------------------------------------------------ */

int ftruncate64(int fd, off64_t size)
{
    find();
    lock();
    uint64_t file = inode_of(fd);
    int outcome = -1;
    if (!file || !change_fails())
        outcome = real_ftruncate(fd, size);
    if (file && outcome == 0)
        record((struct header){.kind = TRUNCATE, .file = file, .length = size}, NULL, NULL, NULL, 0);
    unlock();
    return outcome;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int truncate64(const char *path, off64_t size)
{
    char absolute[PATH_MAX];
    struct stat found;
    find();
    if (!is_ours(AT_FDCWD, path, absolute))
        return real_truncate(path, size);
    lock();
    int outcome = -1;
    if (!change_fails())
        outcome = real_truncate(path, size);
    if (outcome == 0 && stat(path, &found) == 0)
        record((struct header){.kind = TRUNCATE, .file = found.st_ino, .length = size}, NULL, NULL,
               NULL, 0);
    unlock();
    return outcome;
}

int truncate(const char *path, off_t size) { return truncate64(path, size); }

int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
    find();
    lock();
    uint64_t file = inode_of(fd);
    int outcome = -1;
    if (!file || !space_fails())
        outcome = real_fallocate(fd, mode, offset, length);
    if (file && outcome == 0)
        record((struct header){.kind = ALLOCATE, .flags = mode, .file = file, .offset = offset,
                               .length = length}, NULL, NULL, NULL, 0);
    unlock();
    return outcome;
}

int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }

/* Returns the error instead of setting it. Where the file system cannot allocate, the C library
 * writes a byte per block by itself, which changes nothing that can be read. */
int posix_fallocate64(int fd, off64_t offset, off64_t length)
{
    find();
    lock();
    uint64_t file = inode_of(fd);
    int outcome = file && space_fails() ? errno : real_posix_fallocate(fd, offset, length);
    if (file && outcome == 0)
        record((struct header){.kind = ALLOCATE, .file = file, .offset = offset, .length = length},
               NULL, NULL, NULL, 0);
    unlock();
    return outcome;
}

int posix_fallocate(int fd, off_t offset, off_t length) { return posix_fallocate64(fd, offset, length); }

/* ---- Syncing ---------------------------------------------------------------------------------- */

static int sync_with(int fd, int (*real)(int))
{
    find();
    if (!inode_of(fd))
        return real(fd);
    lock();
    struct header header = {.kind = SYNC_BEGIN, .file = inode_of(fd), .offset = ++syncs};
    if (control->no_sync) {
        unlock();
        return 0;
    }
    record(header, NULL, NULL, NULL, 0);
    int outcome = sync_fails() ? -1 : 0;
    if (outcome == 0) {
        unlock();
        if (control->sync_us)
            usleep(control->sync_us);
        outcome = real(fd);
        lock();
    }
    header.kind = outcome == 0 ? SYNC_END : SYNC_FAILED;
    record(header, NULL, NULL, NULL, 0);
    unlock();
    return outcome;
}

int fsync(int fd) { find(); return sync_with(fd, real_fsync); }
int fdatasync(int fd) { find(); return sync_with(fd, real_fdatasync); }

/* Promises nothing about a power cut, so it is no record. Nothing is written early because of it. */
int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags)
{
    find();
    if (inode_of(fd))
        return 0;
    return real_sync_file_range(fd, offset, length, flags);
}

int syncfs(int fd)
{
    (void)fd;
    lock();
    escape("syncfs");
    unlock();
    return 0;
}

/* ---- Names ------------------------------------------------------------------------------------ */

static int rename_any(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    char absolute[PATH_MAX], absolute_to[PATH_MAX];
    find();
    int from_ours = is_ours(from_at, from, absolute);
    int to_ours = is_ours(to_at, to, absolute_to);
    if (!from_ours && !to_ours)
        return real_renameat2(from_at, from, to_at, to, flags);
    lock();
    int outcome = -1;
    if (!space_fails())
        outcome = real_renameat2(from_at, from, to_at, to, flags);
    if (outcome == 0) {
        if (!from_ours || !to_ours || (flags & ~RENAME_NOREPLACE))
            escape("rename");
        record((struct header){.kind = RENAME}, absolute, absolute_to, NULL, 0);
    }
    unlock();
    return outcome;
}

int rename(const char *from, const char *to) { return rename_any(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_at, const char *from, int to_at, const char *to) { return rename_any(from_at, from, to_at, to, 0); }
int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) { return rename_any(from_at, from, to_at, to, flags); }

int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
    char absolute[PATH_MAX], absolute_to[PATH_MAX];
    find();
    int from_ours = is_ours(from_at, from, absolute);
    int to_ours = is_ours(to_at, to, absolute_to);
    if (!from_ours && !to_ours)
        return real_linkat(from_at, from, to_at, to, flags);
    lock();
    int outcome = -1;
    if (!space_fails())
        outcome = real_linkat(from_at, from, to_at, to, flags);
    if (outcome == 0) {
        if (!from_ours || !to_ours)
            escape("link");
        record((struct header){.kind = LINK}, absolute, absolute_to, NULL, 0);
    }
    unlock();
    return outcome;
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int symlinkat(const char *target, int directory, const char *path)
{
    char absolute[PATH_MAX];
    find();
    if (is_ours(directory, path, absolute)) {
        lock();
        escape("symlink");
        unlock();
    }
    return real_symlinkat(target, directory, path);
}

int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

int unlinkat(int directory, const char *path, int flags)
{
    char absolute[PATH_MAX];
    find();
    if (!is_ours(directory, path, absolute))
        return real_unlinkat(directory, path, flags);
    lock();
    int outcome = -1;
    if (!change_fails())
        outcome = real_unlinkat(directory, path, flags);
    if (outcome == 0)
        record((struct header){.kind = flags & AT_REMOVEDIR ? REMOVE_DIR : UNLINK}, absolute, NULL,
               NULL, 0);
    unlock();
    return outcome;
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int directory, const char *path, mode_t mode)
{
    char absolute[PATH_MAX];
    struct stat found;
    find();
    if (!is_ours(directory, path, absolute))
        return real_mkdirat(directory, path, mode);
    lock();
    int outcome = -1;
    int existed = fstatat(directory, path, &found, 0) == 0;
    if (existed || !space_fails())
        outcome = real_mkdirat(directory, path, mode);
    if (outcome == 0 && fstatat(directory, path, &found, 0) == 0)
        record((struct header){.kind = MAKE_DIR, .file = found.st_ino}, absolute, NULL, NULL, 0);
    unlock();
    return outcome;
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
