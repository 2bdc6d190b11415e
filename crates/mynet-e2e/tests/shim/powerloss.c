/*
 * Records what a program does to the files below one directory, in order, with content.
 *
 * Loaded with LD_PRELOAD. Every call that changes a file or a name below POWERLOSS_ROOT, and every fsync, is done and then
 * appended to POWERLOSS_LOG. From that log a test rebuilds what a power cut at any point could have left behind; the
 * other half, with the model of what survives, is `mynet_e2e::powerloss`.
 *
 * - One lock spans a call and its record, so the log has the order in which things happened.
 * - Records speak of inodes, as the disk does: a write to an unlinked or renamed file needs no path.
 * - What cannot be recorded is either refused, where the caller is known to fall back to a plain write
 *   (copy_file_range, sendfile, splice), or written down as UNKNOWN, for which the test fails.
 * - Calls that bypass libc are not seen. The test finds them: at the end, the log replayed must be the directory as it is.
 *
 * Record: struct header, then `length` bytes. Little endian, as the machine that reads it is the one that wrote it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind {
    ROOT = 1,     /* a: inode of the root */
    CREATE = 2,   /* a: directory, b: inode, c: mode; name */
    WRITE = 3,    /* a: inode, b: offset; bytes */
    TRUNCATE = 4, /* a: inode, b: size */
    RENAME = 5,   /* a: old directory, b: new directory; old name, NUL, new name */
    UNLINK = 6,   /* a: directory; name, of a file or of an empty directory */
    LINK = 7,     /* a: directory, b: inode; name */
    FSYNC = 8,    /* a: inode of a file or directory */
    MODE = 9,     /* a: inode, c: mode */
    UNKNOWN = 10, /* what was called */
};

struct header {
    uint32_t kind, length;
    uint64_t a, b, c;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length; /* 0: nothing is recorded */
static int log_fd = -1;

/* ---- the log ---- */

static void die(const char *why) {
    dprintf(2, "powerloss shim: %s: %s\n", why, strerror(errno));
    abort();
}

static void put(const void *bytes, size_t length) {
    const char *from = bytes;
    while (length > 0) {
        ssize_t written = syscall(SYS_write, log_fd, from, length);
        if (written <= 0)
            die("cannot write the log");
        from += written;
        length -= (size_t)written;
    }
}

static void record(enum kind kind, struct header rest, const void *payload, size_t length) {
    rest.kind = kind;
    rest.length = (uint32_t)length;
    put(&rest, sizeof rest);
    put(payload, length);
}

static void unknown(const char *what) { record(UNKNOWN, (struct header){0}, what, strlen(what)); }

static void fork_prepare(void) { pthread_mutex_lock(&lock); }
static void fork_done(void) { pthread_mutex_unlock(&lock); }

__attribute__((constructor)) static void start(void) {
    const char *wanted = getenv("POWERLOSS_ROOT"), *log = getenv("POWERLOSS_LOG");
    if (!wanted || !log)
        return;
    if (!realpath(wanted, root))
        die("POWERLOSS_ROOT");
    int fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    /* Out of the way of a program that expects low numbers. */
    log_fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 900);
    if (log_fd < 0)
        die("POWERLOSS_LOG");
    syscall(SYS_close, fd);
    struct stat meta;
    if (stat(root, &meta) != 0)
        die("POWERLOSS_ROOT");
    pthread_atfork(fork_prepare, fork_done, fork_done);
    root_length = strlen(root);
    record(ROOT, (struct header){.a = meta.st_ino}, "", 0);
}

/* ---- what is below the root ---- */

static int is_below(const char *path) {
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == '\0');
}

/* The path that a descriptor was opened with, or that it was renamed to. */
static int path_of_fd(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0)
        return 0;
    path[length] = '\0';
    return 1;
}

/* Whether a descriptor is a file or directory below the root; its inode is in `meta` then. */
static int tracked_fd(int fd, struct stat *meta) {
    char path[PATH_MAX];
    if (root_length == 0 || fd == log_fd || fstat(fd, meta) != 0)
        return 0;
    return (S_ISREG(meta->st_mode) || S_ISDIR(meta->st_mode)) && path_of_fd(fd, path) && is_below(path);
}

/* A name in a directory below the root. */
struct place {
    ino_t dir;
    char name[NAME_MAX + 1];
    char path[PATH_MAX + NAME_MAX + 2]; /* the whole, for stat */
};

/* Finds the directory and last name of a path; 0 if it is not below the root. */
static int tracked_path(int dirfd, const char *path, struct place *place) {
    char whole[2 * PATH_MAX], dir[PATH_MAX], *slash;
    struct stat meta;
    if (root_length == 0 || !path)
        return 0;
    if (path[0] == '/' || dirfd == AT_FDCWD)
        snprintf(whole, sizeof whole, "%s%s", path[0] == '/' ? "" : "./", path);
    else if (path_of_fd(dirfd, dir))
        snprintf(whole, sizeof whole, "%s/%s", dir, path);
    else
        return 0;
    size_t length = strlen(whole);
    while (length > 1 && whole[length - 1] == '/')
        whole[--length] = '\0';
    slash = strrchr(whole, '/');
    if (!slash || strlen(slash + 1) > NAME_MAX)
        return 0;
    strcpy(place->name, slash + 1);
    *slash = '\0';
    if (!realpath(slash == whole ? "/" : whole, dir) || !is_below(dir) || stat(dir, &meta) != 0)
        return 0;
    place->dir = meta.st_ino;
    snprintf(place->path, sizeof place->path, "%s/%s", dir, place->name);
    return 1;
}

/* ---- the calls ---- */

/* The next definition of a function, which is that of libc. */
#define REAL(type, name, ...)                                                                                                \
    static type (*real)(__VA_ARGS__);                                                                                        \
    if (!real && !(real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)))                                                     \
    die(name)

/* Does a call and what follows from it under the lock, without a trace in errno. */
#define RECORDED(type, call, condition, then)                                                                                \
    do {                                                                                                                     \
        pthread_mutex_lock(&lock);                                                                                           \
        type result = call;                                                                                                  \
        int saved = errno;                                                                                                   \
        if (condition) {                                                                                                     \
            then;                                                                                                            \
        }                                                                                                                    \
        errno = saved;                                                                                                       \
        pthread_mutex_unlock(&lock);                                                                                         \
        return result;                                                                                                       \
    } while (0)

static void created(const struct place *place) {
    struct stat meta;
    if (lstat(place->path, &meta) != 0)
        die("cannot look at what was made");
    struct header header = {.a = place->dir, .b = meta.st_ino, .c = meta.st_mode};
    record(CREATE, header, place->name, strlen(place->name));
}

typedef int open_function(int, const char *, int, mode_t);

static int real_openat(int dirfd, const char *path, int flags, mode_t mode) {
    return (int)syscall(SYS_openat, dirfd, path, flags, mode);
}

static int do_open(int dirfd, const char *path, int flags, mode_t mode) {
    struct place place;
    struct stat before;
    if ((flags & O_TMPFILE) == O_TMPFILE) {
        if (root_length > 0 && path[0] == '/' && is_below(path))
            unknown("O_TMPFILE");
        return real_openat(dirfd, path, flags, mode);
    }
    if (!(flags & (O_CREAT | O_TRUNC)) || !tracked_path(dirfd, path, &place))
        return real_openat(dirfd, path, flags, mode);
    pthread_mutex_lock(&lock);
    int existed = stat(place.path, &before) == 0;
    int fd = real_openat(dirfd, path, flags, mode), saved = errno;
    if (fd >= 0 && !existed)
        created(&place);
    else if (fd >= 0 && (flags & O_TRUNC) && before.st_size > 0)
        record(TRUNCATE, (struct header){.a = before.st_ino}, "", 0);
    errno = saved;
    pthread_mutex_unlock(&lock);
    return fd;
}

/* The mode is there only if a file may be made. */
#define MODE_ARGUMENT(flags)                                                                                                 \
    mode_t mode = 0;                                                                                                         \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                                   \
        va_list arguments;                                                                                                   \
        va_start(arguments, flags);                                                                                          \
        mode = va_arg(arguments, mode_t);                                                                                    \
        va_end(arguments);                                                                                                   \
    }

int open(const char *path, int flags, ...) {
    MODE_ARGUMENT(flags)
    return do_open(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE_ARGUMENT(flags)
    return do_open(AT_FDCWD, path, flags, mode);
}
int openat(int dirfd, const char *path, int flags, ...) {
    MODE_ARGUMENT(flags)
    return do_open(dirfd, path, flags, mode);
}
int openat64(int dirfd, const char *path, int flags, ...) {
    MODE_ARGUMENT(flags)
    return do_open(dirfd, path, flags, mode);
}
int creat(const char *path, mode_t mode) { return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* Records `total` bytes of a vector. */
static void written(ino_t inode, uint64_t offset, const struct iovec *parts, ssize_t total) {
    for (; total > 0; parts++) {
        size_t length = parts->iov_len < (size_t)total ? parts->iov_len : (size_t)total;
        if (length > 0)
            record(WRITE, (struct header){.a = inode, .b = offset}, parts->iov_base, length);
        offset += length;
        total -= (ssize_t)length;
    }
}

/* Where a write ended that went to the position of its descriptor, also one that appended. */
static uint64_t start_of(int fd, ssize_t length) { return (uint64_t)(lseek(fd, 0, SEEK_CUR) - length); }

ssize_t write(int fd, const void *bytes, size_t length) {
    struct stat meta;
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
    if (!tracked_fd(fd, &meta))
        return syscall(SYS_write, fd, bytes, length);
    RECORDED(ssize_t, syscall(SYS_write, fd, bytes, length), result > 0,
             written(meta.st_ino, start_of(fd, result), &part, result));
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    struct stat meta;
    if (!tracked_fd(fd, &meta))
        return syscall(SYS_writev, fd, parts, count);
    RECORDED(ssize_t, syscall(SYS_writev, fd, parts, count), result > 0,
             written(meta.st_ino, start_of(fd, result), parts, result));
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    struct stat meta;
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
    if (!tracked_fd(fd, &meta))
        return syscall(SYS_pwrite64, fd, bytes, length, offset);
    RECORDED(ssize_t, syscall(SYS_pwrite64, fd, bytes, length, offset), result > 0,
             written(meta.st_ino, (uint64_t)offset, &part, result));
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) { return pwrite(fd, bytes, length, offset); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    REAL(ssize_t, "pwritev", int, const struct iovec *, int, off_t);
    struct stat meta;
    if (!tracked_fd(fd, &meta))
        return real(fd, parts, count, offset);
    RECORDED(ssize_t, real(fd, parts, count, offset), result > 0,
             written(meta.st_ino, (uint64_t)offset, parts, result));
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    return pwritev(fd, parts, count, offset);
}

int ftruncate(int fd, off_t size) {
    struct stat meta;
    if (!tracked_fd(fd, &meta))
        return (int)syscall(SYS_ftruncate, fd, size);
    RECORDED(int, (int)syscall(SYS_ftruncate, fd, size), result == 0,
             record(TRUNCATE, ((struct header){.a = meta.st_ino, .b = (uint64_t)size}), "", 0));
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }
int truncate(const char *path, off_t size) {
    struct stat meta;
    struct place place;
    if (!tracked_path(AT_FDCWD, path, &place) || stat(path, &meta) != 0)
        return (int)syscall(SYS_truncate, path, size);
    RECORDED(int, (int)syscall(SYS_truncate, path, size), result == 0,
             record(TRUNCATE, ((struct header){.a = meta.st_ino, .b = (uint64_t)size}), "", 0));
}
int truncate64(const char *path, off64_t size) { return truncate(path, size); }

/* Space ahead of writes only shows as a size. */
int fallocate(int fd, int mode, off_t offset, off_t length) {
    struct stat meta;
    if (!tracked_fd(fd, &meta))
        return (int)syscall(SYS_fallocate, fd, mode, offset, length);
    if (mode != 0)
        unknown("fallocate with a mode");
    RECORDED(int, (int)syscall(SYS_fallocate, fd, mode, offset, length), result == 0 && meta.st_size < offset + length,
             record(TRUNCATE, ((struct header){.a = meta.st_ino, .b = (uint64_t)(offset + length)}), "", 0));
}
int fallocate64(int fd, int mode, off64_t offset, off64_t length) { return fallocate(fd, mode, offset, length); }
int posix_fallocate(int fd, off_t offset, off_t length) { return fallocate(fd, 0, offset, length) == 0 ? 0 : errno; }
int posix_fallocate64(int fd, off64_t offset, off64_t length) { return posix_fallocate(fd, offset, length); }

static int flush(int fd, long number) {
    struct stat meta;
    if (!tracked_fd(fd, &meta))
        return (int)syscall(number, fd);
    RECORDED(int, (int)syscall(number, fd), result == 0, record(FSYNC, (struct header){.a = meta.st_ino}, "", 0));
}
int fsync(int fd) { return flush(fd, SYS_fsync); }
/* Skips times and the like only: nothing that is needed to read the data back. */
int fdatasync(int fd) { return flush(fd, SYS_fdatasync); }
/* sync_file_range is not here: its manual says that it promises nothing about a power cut, so it counts for nothing. */

int renameat2(int olddir, const char *old, int newdir, const char *new, unsigned flags) {
    struct place from, to;
    int tracked = tracked_path(olddir, old, &from), to_tracked = tracked_path(newdir, new, &to);
    if (!tracked && !to_tracked)
        return (int)syscall(SYS_renameat2, olddir, old, newdir, new, flags);
    if (tracked != to_tracked || (flags & ~RENAME_NOREPLACE))
        unknown("a rename across the root, or an exchange");
    char names[2 * (NAME_MAX + 1)];
    size_t length = (size_t)snprintf(names, sizeof names, "%s%c%s", from.name, '\0', to.name);
    RECORDED(int, (int)syscall(SYS_renameat2, olddir, old, newdir, new, flags), result == 0,
             record(RENAME, ((struct header){.a = from.dir, .b = to.dir}), names, length));
}
int renameat(int olddir, const char *old, int newdir, const char *new) { return renameat2(olddir, old, newdir, new, 0); }
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }

int unlinkat(int dirfd, const char *path, int flags) {
    struct place place;
    if (!tracked_path(dirfd, path, &place))
        return (int)syscall(SYS_unlinkat, dirfd, path, flags);
    RECORDED(int, (int)syscall(SYS_unlinkat, dirfd, path, flags), result == 0,
             record(UNLINK, (struct header){.a = place.dir}, place.name, strlen(place.name)));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    if (unlink(path) == 0)
        return 0;
    return errno == EISDIR ? rmdir(path) : -1;
}

int mkdirat(int dirfd, const char *path, mode_t mode) {
    struct place place;
    if (!tracked_path(dirfd, path, &place))
        return (int)syscall(SYS_mkdirat, dirfd, path, mode);
    RECORDED(int, (int)syscall(SYS_mkdirat, dirfd, path, mode), result == 0, created(&place));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

static void linked(const struct place *place) {
    struct stat meta;
    if (lstat(place->path, &meta) != 0)
        die("cannot look at what was linked");
    record(LINK, (struct header){.a = place->dir, .b = meta.st_ino}, place->name, strlen(place->name));
}
int linkat(int olddir, const char *old, int newdir, const char *new, int flags) {
    struct place place;
    if (!tracked_path(newdir, new, &place))
        return (int)syscall(SYS_linkat, olddir, old, newdir, new, flags);
    RECORDED(int, (int)syscall(SYS_linkat, olddir, old, newdir, new, flags), result == 0, linked(&place));
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }
int symlinkat(const char *target, int dirfd, const char *path) {
    struct place place;
    if (tracked_path(dirfd, path, &place))
        unknown("a symbolic link");
    return (int)syscall(SYS_symlinkat, target, dirfd, path);
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

/* Modes are taken as durable at once: none of them is relied upon by what is under test. */
int fchmod(int fd, mode_t mode) {
    struct stat meta;
    if (!tracked_fd(fd, &meta))
        return (int)syscall(SYS_fchmod, fd, mode);
    RECORDED(int, (int)syscall(SYS_fchmod, fd, mode), result == 0,
             record(MODE, ((struct header){.a = meta.st_ino, .c = mode}), "", 0));
}
int chmod(const char *path, mode_t mode) {
    struct stat meta;
    struct place place;
    if (!tracked_path(AT_FDCWD, path, &place) || stat(path, &meta) != 0)
        return (int)syscall(SYS_fchmodat, AT_FDCWD, path, mode);
    RECORDED(int, (int)syscall(SYS_fchmodat, AT_FDCWD, path, mode), result == 0,
             record(MODE, ((struct header){.a = meta.st_ino, .c = mode}), "", 0));
}

/* Copies inside the kernel are refused, as by a file system that cannot: callers fall back to read and write. */
static int refused(int fd) {
    struct stat meta;
    if (!tracked_fd(fd, &meta))
        return 0;
    errno = EINVAL;
    return 1;
}
ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t length, unsigned flags) {
    return refused(out) ? -1 : syscall(SYS_copy_file_range, in, in_at, out, out_at, length, flags);
}
ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
    return refused(out) ? -1 : syscall(SYS_sendfile, out, in, offset, count);
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t count) { return sendfile(out, in, offset, count); }
ssize_t splice(int in, off64_t *in_at, int out, off64_t *out_at, size_t length, unsigned flags) {
    return refused(out) ? -1 : syscall(SYS_splice, in, in_at, out, out_at, length, flags);
}

/* Writes through memory are not seen. SQLite's index of the log is mapped, and rebuilt by whoever opens it first. */
void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    REAL(void *, "mmap", void *, size_t, int, int, int, off_t);
    struct stat meta;
    char path[PATH_MAX];
    if (fd >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE) && tracked_fd(fd, &meta) && path_of_fd(fd, path)) {
        size_t end = strlen(path);
        if (end < 4 || strcmp(path + end - 4, "-shm") != 0)
            unknown("a shared writable mapping");
    }
    return real(address, length, protection, flags, fd, offset);
}
void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset) {
    return mmap(address, length, protection, flags, fd, offset);
}
