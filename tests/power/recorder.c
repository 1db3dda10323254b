/*
 * What a process does to the files below one folder, written down in the order in which it
 * happens. Preloaded into the server; see recorder.rs for who reads it.
 *
 *   ONCED_TEST_RECORD_ROOT     the folder
 *   ONCED_TEST_RECORD_JOURNAL  where it is written down, outside of that folder
 *
 * Every change is made and written down under one mutex, so their order is the order of their
 * effects. A change that fails is not written down. Of a sync both ends are: what was changed
 * before it began is durable once it has returned well, and nothing else is. A process that
 * is killed between a change and its entry loses the entry of a change that no sync has
 * covered yet.
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
    OPENED = 1, CREATED, WRITTEN, RESIZED, ALLOCATED, SYNCING, SYNCED,
    RENAMED, UNLINKED, LINKED, FOLDER_MADE, FOLDER_REMOVED,
};

struct entry {
    uint32_t kind, path_bytes;
    uint64_t file, at, bytes;
};

#define FILES 65536

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_bytes;
static int journal = -1;
static uint64_t syncs;
/* The inode behind a descriptor that is watched; 0 where it is not. */
static uint64_t watched[FILES];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void fail(const char *what)
{
    dprintf(2, "recorder: %s\n", what);
    abort();
}

__attribute__((constructor)) static void start(void)
{
    const char *folder = getenv("ONCED_TEST_RECORD_ROOT"), *path = getenv("ONCED_TEST_RECORD_JOURNAL");
    if (!folder || !path)
        return;
    root_bytes = strlen(folder);
    memcpy(root, folder, root_bytes + 1);
    journal = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (journal < 0)
        fail("cannot open the journal");
}

/* The path below the root, empty for the root, or nothing for other files. The server uses absolute paths. */
static const char *below(const char *path)
{
    if (journal < 0 || !path || strncmp(path, root, root_bytes))
        return NULL;
    const char *rest = path + root_bytes;
    return *rest == '/' || !*rest ? rest : NULL;
}

static uint64_t file_of(int fd)
{
    return journal >= 0 && fd >= 0 && fd < FILES ? watched[fd] : 0;
}

static void note(uint32_t kind, uint64_t file, uint64_t at, const char *path,
                 const struct iovec *data, int pieces, size_t bytes)
{
    struct entry entry = { kind, path ? strlen(path) : 0, file, at, bytes };
    struct iovec parts[66] = {
        { &entry, sizeof entry }, { (void *)path, entry.path_bytes },
    };
    int count = 2;
    if (pieces > 64)
        fail("a write has too many pieces");
    for (size_t left = bytes; left > 0 && count < pieces + 2; count++) {
        parts[count] = data[count - 2];
        if (parts[count].iov_len > left)
            parts[count].iov_len = left;
        left -= parts[count].iov_len;
    }
    size_t all = sizeof entry + entry.path_bytes + bytes;
    if (syscall(SYS_writev, journal, parts, count) != (ssize_t)all)
        fail("cannot write to the journal");
}

static void note_pair(uint32_t kind, const char *from, const char *to)
{
    struct iovec data = { (void *)to, strlen(to) };
    note(kind, 0, 0, from, &data, 1, data.iov_len);
}

/* ---- names ---- */

static int opened(int fd, const char *path, int flags, int existed)
{
    struct stat stat;
    const char *name = below(path);
    if (fd < 0 || !name)
        return fd;
    if (fd >= FILES || fstat(fd, &stat))
        fail("cannot watch a file");
    watched[fd] = stat.st_ino;
    if (flags & O_CREAT && !existed)
        note(CREATED, stat.st_ino, 0, name, NULL, 0, 0);
    else
        note(OPENED, stat.st_ino, 0, name, NULL, 0, 0);
    if (existed && flags & O_TRUNC)
        note(RESIZED, stat.st_ino, 0, NULL, NULL, 0, 0);
    return fd;
}

static int open_watched(int folder, const char *path, int flags, mode_t mode)
{
    if (!below(path))
        return syscall(SYS_openat, folder, path, flags, mode);
    pthread_mutex_lock(&mutex);
    struct stat stat;
    int existed = lstat(path, &stat) == 0;
    int fd = opened(syscall(SYS_openat, folder, path, flags, mode), path, flags, existed);
    int error = errno;
    pthread_mutex_unlock(&mutex);
    errno = error;
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & O_CREAT) { va_list list; va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); }

int open(const char *path, int flags, ...) { MODE(flags) return open_watched(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_watched(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags) return open_watched(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return open_watched(folder, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_watched(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int fd)
{
    pthread_mutex_lock(&mutex);
    if (fd >= 0 && fd < FILES)
        watched[fd] = 0;
    int result = syscall(SYS_close, fd), error = errno;
    pthread_mutex_unlock(&mutex);
    errno = error;
    return result;
}

#define CHANGE(result_type, call, condition, entry) \
    pthread_mutex_lock(&mutex); \
    result_type result = call; \
    int error = errno; \
    if (condition) entry; \
    pthread_mutex_unlock(&mutex); \
    errno = error; \
    return result;

int rename(const char *from, const char *to)
{
    if (!below(from) && !below(to))
        return REAL(rename)(from, to);
    if (!below(from) || !below(to))
        fail("a name moves across the root");
    CHANGE(int, REAL(rename)(from, to), result == 0, note_pair(RENAMED, below(from), below(to)))
}

int unlink(const char *path)
{
    if (!below(path))
        return REAL(unlink)(path);
    CHANGE(int, REAL(unlink)(path), result == 0, note(UNLINKED, 0, 0, below(path), NULL, 0, 0))
}

int link(const char *from, const char *to)
{
    if (!below(from) && !below(to))
        return REAL(link)(from, to);
    CHANGE(int, REAL(link)(from, to), result == 0, note_pair(LINKED, below(from), below(to)))
}

int mkdir(const char *path, mode_t mode)
{
    if (!below(path))
        return REAL(mkdir)(path, mode);
    CHANGE(int, REAL(mkdir)(path, mode), result == 0, note(FOLDER_MADE, 0, 0, below(path), NULL, 0, 0))
}

int rmdir(const char *path)
{
    if (!below(path))
        return REAL(rmdir)(path);
    CHANGE(int, REAL(rmdir)(path), result == 0, note(FOLDER_REMOVED, 0, 0, below(path), NULL, 0, 0))
}

/* Nothing in the server does these; if it ever does, the recorder has to learn them. */
int renameat(int a, const char *from, int b, const char *to)
{
    if (below(from) || below(to))
        fail("renameat is not recorded");
    return REAL(renameat)(a, from, b, to);
}

int unlinkat(int folder, const char *path, int flags)
{
    if (below(path))
        fail("unlinkat is not recorded");
    return REAL(unlinkat)(folder, path, flags);
}

int truncate(const char *path, off_t size)
{
    if (below(path))
        fail("truncate is not recorded");
    return REAL(truncate)(path, size);
}

/* ---- contents ---- */

static void wrote(int fd, off_t at, const struct iovec *data, int pieces, ssize_t bytes)
{
    if (at < 0)
        at = lseek(fd, 0, SEEK_CUR) - bytes;
    note(WRITTEN, file_of(fd), at, NULL, data, pieces, bytes);
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    if (!file_of(fd))
        return syscall(SYS_write, fd, bytes, size);
    struct iovec data = { (void *)bytes, size };
    CHANGE(ssize_t, syscall(SYS_write, fd, bytes, size), result > 0, wrote(fd, -1, &data, 1, result))
}

ssize_t writev(int fd, const struct iovec *data, int pieces)
{
    if (!file_of(fd))
        return syscall(SYS_writev, fd, data, pieces);
    CHANGE(ssize_t, syscall(SYS_writev, fd, data, pieces), result > 0, wrote(fd, -1, data, pieces, result))
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at)
{
    if (!file_of(fd))
        return syscall(SYS_pwrite64, fd, bytes, size, at);
    struct iovec data = { (void *)bytes, size };
    CHANGE(ssize_t, syscall(SYS_pwrite64, fd, bytes, size, at), result > 0, wrote(fd, at, &data, 1, result))
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) { return pwrite(fd, bytes, size, at); }

int ftruncate(int fd, off_t size)
{
    if (!file_of(fd))
        return syscall(SYS_ftruncate, fd, size);
    CHANGE(int, syscall(SYS_ftruncate, fd, size), result == 0, note(RESIZED, file_of(fd), size, NULL, NULL, 0, 0))
}

int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int fallocate(int fd, int mode, off_t at, off_t size)
{
    if (!file_of(fd))
        return syscall(SYS_fallocate, fd, mode, at, size);
    if (mode & ~FALLOC_FL_KEEP_SIZE)
        fail("this mode of fallocate is not recorded");
    /* Blocks without content: only the size can show. */
    CHANGE(int, syscall(SYS_fallocate, fd, mode, at, size), result == 0 && !mode,
           note(ALLOCATED, file_of(fd), at + size, NULL, NULL, 0, 0))
}

int fallocate64(int fd, int mode, off64_t at, off64_t size) { return fallocate(fd, mode, at, size); }

int posix_fallocate(int fd, off_t at, off_t size)
{
    if (file_of(fd))
        fail("posix_fallocate is not recorded");
    return REAL(posix_fallocate)(fd, at, size);
}

void *mmap(void *where, size_t size, int protection, int flags, int fd, off_t at)
{
    if (file_of(fd) && protection & PROT_WRITE && flags & MAP_SHARED)
        fail("writing through a mapping is not recorded");
    return (void *)syscall(SYS_mmap, where, size, protection, flags, fd, at);
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags)
{
    if (file_of(to)) {
        /* The caller falls back to writing. */
        errno = EXDEV;
        return -1;
    }
    return syscall(SYS_copy_file_range, from, from_at, to, to_at, size, flags);
}

/* ---- syncs: not under the mutex, since writes go on meanwhile ---- */

static int sync_watched(int fd, long call)
{
    uint64_t file = file_of(fd);
    if (!file)
        return syscall(call, fd);
    pthread_mutex_lock(&mutex);
    uint64_t sync = ++syncs;
    note(SYNCING, file, sync, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&mutex);
    int result = syscall(call, fd), error = errno;
    if (result == 0) {
        pthread_mutex_lock(&mutex);
        note(SYNCED, file, sync, NULL, NULL, 0, 0);
        pthread_mutex_unlock(&mutex);
    }
    errno = error;
    return result;
}

int fsync(int fd) { return sync_watched(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_watched(fd, SYS_fdatasync); }
