// A library to be preloaded: it notes every operation that changes a file or a folder under
// POWER_ROOT, with its data, and every sync, in the order in which they took effect, in the
// journal POWER_JOURNAL. `journal.rs` reads it, `disk.rs` says what a power cut leaves.
//
// An operation runs and is noted under one mutex, so that the order of the journal is the order
// of the effects. A sync is different: it is noted when it begins and, once it succeeded, when
// it ends, and other operations run meanwhile. It promises no more than what had been done when
// it began. Nothing is really synced: a sync lasts POWER_SYNC_MICROS instead, so that there is
// time to do something wrong meanwhile, and the disk of the machine is left in peace.
//
// What is not understood ends the process loudly. A call that nobody thought of shows when the
// journal is compared with the real folder, which every test does.

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
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind {
    CREATED = 1, MADE_FOLDER, WRITTEN, TRUNCATED, EXTENDED,
    SYNC_BEGAN, SYNC_ENDED, RENAMED, UNLINKED, REMOVED_FOLDER,
};

struct head {
    uint32_t kind, names_bytes;
    uint64_t inode, number, data_bytes;
};

#define MAX_FDS 65536
static struct { uint64_t inode; int is_tracked, appends; } files[MAX_FDS];

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static int journal = -1;
static char root[PATH_MAX];
static size_t root_bytes;
static long sync_micros;
static uint64_t syncs;

#define REAL(name) ({ \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
    real; })

static void refuse(const char *what, const char *path) {
    fprintf(stderr, "power recorder: %s is not understood: %s\n", what, path);
    abort();
}

__attribute__((constructor)) static void begin(void) {
    const char *to = getenv("POWER_JOURNAL"), *under = getenv("POWER_ROOT");
    const char *micros = getenv("POWER_SYNC_MICROS");
    if (!to || !under || !realpath(under, root)) refuse("the environment", "POWER_ROOT");
    root_bytes = strlen(root);
    sync_micros = micros ? atol(micros) : 0;
    journal = REAL(open)(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (journal < 0) refuse("the journal", to);
}

static void note(enum kind kind, uint64_t inode, uint64_t number, const char *names,
                 size_t names_bytes, const void *data, size_t data_bytes) {
    struct head head = {kind, names_bytes, inode, number, data_bytes};
    struct iovec parts[3] = {
        {&head, sizeof head}, {(void *)names, names_bytes}, {(void *)data, data_bytes}};
    size_t left = sizeof head + names_bytes + data_bytes;
    ssize_t done = REAL(writev)(journal, parts, 3);
    if (done < 0 || (size_t)done != left) refuse("a short write to the journal", "disk full?");
}

// The path without a detour, and whether it is ours. Paths with ".." are not understood.
static int is_ours(int folder, const char *path, char *whole) {
    char joined[2 * PATH_MAX + 2], base[PATH_MAX] = "";
    if (path[0] != '/') {
        if (folder == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return 0;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t length = readlink(link, base, sizeof base - 1);
            if (length < 0) return 0;
            base[length] = 0;
        }
    }
    snprintf(joined, sizeof joined, "%s/%s", base, path);
    char *end = whole;
    for (char *part = joined; *part;) {
        size_t length = strcspn(part, "/");
        if (length == 2 && !strncmp(part, "..", 2)) {
            if (!strncmp(joined, root, root_bytes)) refuse("..", joined);
            return 0;
        }
        if (length && !(length == 1 && part[0] == '.')) {
            if (end - whole + length + 2 > PATH_MAX) return 0;
            *end++ = '/';
            memcpy(end, part, length);
            end += length;
        }
        part += length;
        if (*part) part++;
    }
    *end = 0;
    return root_bytes && !strncmp(whole, root, root_bytes) && (!whole[root_bytes] || whole[root_bytes] == '/');
}

// What the journal calls it: relative to the root, without a slash in front.
static const char *below(const char *whole) {
    return whole + root_bytes + (whole[root_bytes] == '/');
}

static int is_tracked(int fd) {
    return fd >= 0 && fd < MAX_FDS && __atomic_load_n(&files[fd].is_tracked, __ATOMIC_ACQUIRE);
}

static int opened(int folder, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    if (!is_ours(folder, path, whole)) return REAL(openat)(folder, path, flags, mode);
    if ((flags & O_TMPFILE) == O_TMPFILE) refuse("O_TMPFILE", path);
    pthread_mutex_lock(&order);
    struct stat before, after;
    int existed = !lstat(whole, &before);
    int fd = REAL(openat)(folder, path, flags, mode);
    int error = errno;
    if (fd >= 0) {
        if (fd >= MAX_FDS || fstat(fd, &after)) refuse("a file descriptor", path);
        if (existed && S_ISLNK(before.st_mode)) refuse("a link", path);
        if (!existed)
            note(CREATED, after.st_ino, 0, below(whole), strlen(below(whole)), NULL, 0);
        else if ((flags & O_TRUNC) && before.st_size > 0)
            note(TRUNCATED, after.st_ino, 0, NULL, 0, NULL, 0);
        files[fd].inode = after.st_ino;
        files[fd].appends = !!(flags & O_APPEND);
        __atomic_store_n(&files[fd].is_tracked, 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&order);
    errno = error;
    return fd;
}

#define MODE_OF(flags) ({ \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list more; va_start(more, flags); mode = va_arg(more, int); va_end(more); } \
    mode; })

int open(const char *path, int flags, ...) { return opened(AT_FDCWD, path, flags, MODE_OF(flags)); }
int open64(const char *path, int flags, ...) { return opened(AT_FDCWD, path, flags, MODE_OF(flags)); }
int openat(int at, const char *path, int flags, ...) { return opened(at, path, flags, MODE_OF(flags)); }
int openat64(int at, const char *path, int flags, ...) { return opened(at, path, flags, MODE_OF(flags)); }
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

FILE *fopen(const char *path, const char *how) {
    char whole[PATH_MAX];
    if (strpbrk(how, "wa+") && is_ours(AT_FDCWD, path, whole)) refuse("fopen", path);
    return REAL(fopen)(path, how);
}
FILE *fopen64(const char *path, const char *how) { return fopen(path, how); }

int close(int fd) {
    if (!is_tracked(fd)) return REAL(close)(fd);
    pthread_mutex_lock(&order);
    files[fd].is_tracked = 0;
    int result = REAL(close)(fd);
    pthread_mutex_unlock(&order);
    return result;
}

static void not_twice(int fd) { if (is_tracked(fd)) refuse("a second descriptor", "dup"); }
int dup(int fd) { not_twice(fd); return REAL(dup)(fd); }
int dup2(int fd, int to) { not_twice(fd); not_twice(to); return REAL(dup2)(fd, to); }
int dup3(int fd, int to, int flags) { not_twice(fd); not_twice(to); return REAL(dup3)(fd, to, flags); }

// Runs a write of a tracked file and notes as many of its bytes as were taken. AT is where it
// goes, or -1 for where the file stands.
#define WRITING(fd, at, call, parts, count) ({ \
    pthread_mutex_lock(&order); \
    off_t to = (at); \
    struct stat now; \
    if (files[fd].appends) { fstat(fd, &now); to = now.st_size; } \
    else if (to < 0) to = lseek(fd, 0, SEEK_CUR); \
    ssize_t taken = (call); \
    int error = errno; \
    if (taken > 0) note_parts(files[fd].inode, to, (parts), (count), taken); \
    pthread_mutex_unlock(&order); \
    errno = error; \
    taken; })

static void note_parts(uint64_t inode, off_t to, const struct iovec *parts, int count, size_t taken) {
    for (int i = 0; i < count && taken > 0; i++) {
        size_t length = parts[i].iov_len < taken ? parts[i].iov_len : taken;
        if (length) note(WRITTEN, inode, to, NULL, 0, parts[i].iov_base, length);
        to += length;
        taken -= length;
    }
}

ssize_t write(int fd, const void *data, size_t bytes) {
    if (!is_tracked(fd)) return REAL(write)(fd, data, bytes);
    struct iovec part = {(void *)data, bytes};
    return WRITING(fd, -1, REAL(write)(fd, data, bytes), &part, 1);
}
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) {
    if (!is_tracked(fd)) return REAL(pwrite)(fd, data, bytes, at);
    struct iovec part = {(void *)data, bytes};
    return WRITING(fd, at, REAL(pwrite)(fd, data, bytes, at), &part, 1);
}
ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t at) { return pwrite(fd, data, bytes, at); }
ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!is_tracked(fd)) return REAL(writev)(fd, parts, count);
    return WRITING(fd, -1, REAL(writev)(fd, parts, count), parts, count);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    if (!is_tracked(fd)) return REAL(pwritev)(fd, parts, count, at);
    return WRITING(fd, at, REAL(pwritev)(fd, parts, count, at), parts, count);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) { return pwritev(fd, parts, count, at); }

static void no_copy(int fd) { if (is_tracked(fd)) refuse("a copy within the kernel", "copy_file_range"); }
ssize_t copy_file_range(int in, off_t *from, int out, off_t *to, size_t bytes, unsigned flags) {
    no_copy(out);
    return REAL(copy_file_range)(in, from, out, to, bytes, flags);
}

void *mmap(void *at, size_t bytes, int access, int flags, int fd, off_t from) {
    if (fd >= 0 && is_tracked(fd) && (access & PROT_WRITE) && (flags & MAP_SHARED))
        refuse("a file that is written through memory", "mmap");
    return REAL(mmap)(at, bytes, access, flags, fd, from);
}
void *mmap64(void *at, size_t bytes, int access, int flags, int fd, off_t from) {
    return mmap(at, bytes, access, flags, fd, from);
}

int ftruncate(int fd, off_t bytes) {
    if (!is_tracked(fd)) return REAL(ftruncate)(fd, bytes);
    pthread_mutex_lock(&order);
    int result = REAL(ftruncate)(fd, bytes), error = errno;
    if (!result) note(TRUNCATED, files[fd].inode, bytes, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&order);
    errno = error;
    return result;
}
int ftruncate64(int fd, off_t bytes) { return ftruncate(fd, bytes); }
int truncate(const char *path, off_t bytes) {
    int fd = open(path, O_WRONLY);
    if (fd < 0) return -1;
    int result = ftruncate(fd, bytes), error = errno;
    close(fd);
    errno = error;
    return result;
}
int truncate64(const char *path, off_t bytes) { return truncate(path, bytes); }

// Room that is set aside behind the end of a file, or given back there, shows in no content;
// anything else that is understood makes the file longer.
int fallocate(int fd, int mode, off_t from, off_t bytes) {
    if (!is_tracked(fd)) return REAL(fallocate)(fd, mode, from, bytes);
    pthread_mutex_lock(&order);
    struct stat now;
    int gives_back = mode == (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE);
    if (mode & ~FALLOC_FL_KEEP_SIZE && !gives_back) refuse("fallocate", "its mode");
    if (gives_back && (fstat(fd, &now) || from < now.st_size)) refuse("fallocate", "a hole");
    int result = REAL(fallocate)(fd, mode, from, bytes), error = errno;
    if (!result && !mode) note(EXTENDED, files[fd].inode, from + bytes, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&order);
    errno = error;
    return result;
}
int fallocate64(int fd, int mode, off_t from, off_t bytes) { return fallocate(fd, mode, from, bytes); }
int posix_fallocate(int fd, off_t from, off_t bytes) {
    if (!is_tracked(fd)) return REAL(posix_fallocate)(fd, from, bytes);
    return fallocate(fd, 0, from, bytes) ? errno : 0;
}
int posix_fallocate64(int fd, off_t from, off_t bytes) { return posix_fallocate(fd, from, bytes); }

static int synced(int fd) {
    pthread_mutex_lock(&order);
    uint64_t ticket = syncs++;
    note(SYNC_BEGAN, files[fd].inode, ticket, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&order);
    if (sync_micros) usleep(sync_micros);
    pthread_mutex_lock(&order);
    note(SYNC_ENDED, 0, ticket, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&order);
    return 0;
}
int fsync(int fd) { return is_tracked(fd) ? synced(fd) : REAL(fsync)(fd); }
int fdatasync(int fd) { return is_tracked(fd) ? synced(fd) : REAL(fdatasync)(fd); }
// It starts the writing out of pages, without a promise.
int sync_file_range(int fd, off_t from, off_t bytes, unsigned flags) {
    return is_tracked(fd) ? 0 : REAL(sync_file_range)(fd, from, bytes, flags);
}

// RocksDB leaves out syncs of folders on btrfs, where that of the file is enough. Which disk is
// beneath this test must not matter.
static int plain(int result, int fd, long *type) {
    if (!result && is_tracked(fd)) *type = 0xEF53;
    return result;
}
int fstatfs(int fd, struct statfs *about) { return plain(REAL(fstatfs)(fd, about), fd, &about->f_type); }
int fstatfs64(int fd, struct statfs64 *about) { return plain(REAL(fstatfs64)(fd, about), fd, &about->f_type); }

// Both names with a zero between them, and what the first stood for.
int renameat(int old_at, const char *old, int new_at, const char *new) {
    char from[PATH_MAX], to[PATH_MAX], both[2 * PATH_MAX];
    int ours = is_ours(old_at, old, from);
    if (ours != is_ours(new_at, new, to)) refuse("a move over the border", old);
    if (!ours) return REAL(renameat)(old_at, old, new_at, new);
    pthread_mutex_lock(&order);
    int result = REAL(renameat)(old_at, old, new_at, new), error = errno;
    if (!result) {
        size_t length = strlen(below(from)) + 1;
        strcpy(both, below(from));
        strcpy(both + length, below(to));
        note(RENAMED, 0, 0, both, length + strlen(below(to)), NULL, 0);
    }
    pthread_mutex_unlock(&order);
    errno = error;
    return result;
}
int rename(const char *old, const char *new) { return renameat(AT_FDCWD, old, AT_FDCWD, new); }
int renameat2(int old_at, const char *old, int new_at, const char *new, unsigned flags) {
    if (flags) refuse("a flag of renameat2", old);
    return renameat(old_at, old, new_at, new);
}

static int gone(int at, const char *path, int flags) {
    char whole[PATH_MAX];
    if (!is_ours(at, path, whole)) return REAL(unlinkat)(at, path, flags);
    pthread_mutex_lock(&order);
    int result = REAL(unlinkat)(at, path, flags), error = errno;
    enum kind kind = flags & AT_REMOVEDIR ? REMOVED_FOLDER : UNLINKED;
    if (!result) note(kind, 0, 0, below(whole), strlen(below(whole)), NULL, 0);
    pthread_mutex_unlock(&order);
    errno = error;
    return result;
}
int unlinkat(int at, const char *path, int flags) { return gone(at, path, flags); }
int unlink(const char *path) { return gone(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return gone(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    struct stat about;
    int is_folder = !lstat(path, &about) && S_ISDIR(about.st_mode);
    return gone(AT_FDCWD, path, is_folder ? AT_REMOVEDIR : 0);
}

int mkdirat(int at, const char *path, mode_t mode) {
    char whole[PATH_MAX];
    if (!is_ours(at, path, whole)) return REAL(mkdirat)(at, path, mode);
    pthread_mutex_lock(&order);
    int result = REAL(mkdirat)(at, path, mode), error = errno;
    struct stat about;
    if (!result) {
        if (lstat(whole, &about)) refuse("a folder that vanished", path);
        note(MADE_FOLDER, about.st_ino, 0, below(whole), strlen(below(whole)), NULL, 0);
    }
    pthread_mutex_unlock(&order);
    errno = error;
    return result;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int linkat(int old_at, const char *old, int new_at, const char *new, int flags) {
    char whole[PATH_MAX];
    if (is_ours(old_at, old, whole) || is_ours(new_at, new, whole)) refuse("a second name", new);
    return REAL(linkat)(old_at, old, new_at, new, flags);
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }
int symlinkat(const char *target, int at, const char *path) {
    char whole[PATH_MAX];
    if (is_ours(at, path, whole)) refuse("a symbolic link", path);
    return REAL(symlinkat)(target, at, path);
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }
