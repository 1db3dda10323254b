/*
 * Faults of the machine on demand: writes and syncs of files that fail or stall, and a system
 * clock that is elsewhere. Preloaded into the server; see shim.rs for who sets the switches.
 *
 *   ONCED_TEST_FAULTS   a file that holds the switches, mapped by both sides
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct switches {
    int64_t write_error;   /* the errno of every write to a file; 0: none */
    int64_t sync_error;    /* the same of syncs */
    int64_t stalled;       /* syncs take until this is 0 */
    int64_t clock_seconds; /* what is added to the clock */
    int64_t failed;        /* how many calls failed */
};

static struct switches none;
static volatile struct switches *switches = &none;

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("ONCED_TEST_FAULTS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED)
        abort();
    switches = mapped;
    close(file);
}

/* Pipes and sockets are not the disk. */
static int is_file(int fd)
{
    struct stat stat;
    return fstat(fd, &stat) == 0 && (S_ISREG(stat.st_mode) || S_ISDIR(stat.st_mode));
}

static int fails(int64_t error, int fd)
{
    if (!error || !is_file(fd))
        return 0;
    __atomic_add_fetch(&switches->failed, 1, __ATOMIC_SEQ_CST);
    errno = error;
    return 1;
}

#define WRITE(name, parameters, fd, call) \
    ssize_t name parameters { return fails(switches->write_error, fd) ? -1 : (call); }

WRITE(write, (int fd, const void *bytes, size_t size), fd, syscall(SYS_write, fd, bytes, size))
WRITE(writev, (int fd, const struct iovec *data, int pieces), fd, syscall(SYS_writev, fd, data, pieces))
WRITE(pwrite, (int fd, const void *bytes, size_t size, off_t at), fd, syscall(SYS_pwrite64, fd, bytes, size, at))
WRITE(pwrite64, (int fd, const void *bytes, size_t size, off64_t at), fd, syscall(SYS_pwrite64, fd, bytes, size, at))

static int sync_file(int fd, long call)
{
    while (switches->stalled && is_file(fd))
        usleep(1000);
    return fails(switches->sync_error, fd) ? -1 : syscall(call, fd);
}

int fsync(int fd) { return sync_file(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += switches->clock_seconds;
    return result;
}
