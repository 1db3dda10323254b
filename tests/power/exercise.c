// Does once to the folder it is given whatever the recorder understands, in every spelling, so
// that the model can be compared with what is really there.

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define DO(call) do { if ((call) < 0) { perror(#call); exit(1); } } while (0)

static const char text[] = "what is written";

static void bytes(void) {
    struct iovec parts[2] = {{(void *)text, 4}, {(void *)text, sizeof text}};
    int fd = open("data/write", O_RDWR | O_CREAT, 0600);
    DO(fd);
    DO(write(fd, text, sizeof text));
    DO(lseek(fd, 3, SEEK_SET));
    DO(write(fd, text, 4));
    DO(pwrite(fd, text, sizeof text, 700));
    DO(pwrite64(fd, text, sizeof text, 20));
    DO(writev(fd, parts, 2));
    DO(pwritev(fd, parts, 2, 1000));
    DO(pwritev64(fd, parts, 2, 40));
    DO(fsync(fd));
    DO(close(fd));

    fd = open("data/write", O_WRONLY | O_APPEND);
    DO(fd);
    DO(write(fd, text, sizeof text));
    DO(writev(fd, parts, 2));
    DO(close(fd));
}

// A file of its own for each call, so that no call hides another.
static int file(const char *path) {
    int fd = open64(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    DO(fd);
    DO(write(fd, text, sizeof text));
    return fd;
}

#define FILE_WITH(name, call) do { int fd = file("data/" name); DO(call); DO(close(fd)); } while (0)

static void lengths(void) {
    FILE_WITH("ftruncate", ftruncate(fd, 5));
    FILE_WITH("ftruncate64", ftruncate64(fd, 50));
    FILE_WITH("truncate", truncate("data/truncate", 5));
    FILE_WITH("truncate64", truncate64("data/truncate64", 50));
    FILE_WITH("keep-size", fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 9000));
    FILE_WITH("behind", fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 4096, 4096));
    FILE_WITH("fallocate", fallocate(fd, 0, 0, 60));
    FILE_WITH("fallocate64", fallocate64(fd, 0, 0, 60));
    FILE_WITH("inside", fallocate64(fd, 0, 0, 6));
    FILE_WITH("posix-fallocate", -posix_fallocate(fd, 0, 70));
    FILE_WITH("posix-fallocate64", -posix_fallocate64(fd, 0, 80));
    FILE_WITH("fdatasync", fdatasync(fd));
    FILE_WITH("sync-file-range", sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));

    // A file that is there already is emptied, and filled anew.
    DO(close(file("data/emptied")));
    DO(close(file("data/emptied64")));
    int fd = creat("data/emptied", 0600);
    DO(fd);
    DO(write(fd, text, 3));
    DO(close(fd));
    fd = creat64("data/emptied64", 0600);
    DO(fd);
    DO(write(fd, text, 2));
    DO(close(fd));
}

static void names(int folder) {
    int fd = openat(folder, "at", O_WRONLY | O_CREAT, 0600);
    DO(fd);
    DO(write(fd, text, sizeof text));
    // It keeps its bytes under another name, also while it is open.
    DO(rename("data/at", "data/elsewhere"));
    DO(write(fd, text, sizeof text));
    DO(close(fd));
    fd = openat64(folder, "to-be-replaced", O_WRONLY | O_CREAT, 0600);
    DO(fd);
    DO(close(fd));
    DO(renameat(folder, "elsewhere", folder, "to-be-replaced"));
    DO(renameat2(folder, "to-be-replaced", folder, "renamed", 0));

    for (int round = 0; round < 3; round++) {
        // Inodes are used again.
        fd = open("data/./passing", O_WRONLY | O_CREAT | O_TRUNC, 0600);
        DO(fd);
        DO(write(fd, text, 3 + round));
        DO(unlink("data//passing"));
        DO(write(fd, text, 3));
        DO(close(fd));
    }
    DO(close(open("data/one", O_WRONLY | O_CREAT, 0600)));
    DO(unlinkat(folder, "one", 0));
    DO(close(open("data/two", O_WRONLY | O_CREAT, 0600)));
    DO(remove("data/two"));
}

static void folders(int folder) {
    DO(mkdirat(folder, "kept", 0700));
    DO(mkdir("data/kept/below", 0700));
    DO(mkdir("data/a", 0700));
    DO(rmdir("data/a"));
    DO(mkdir("data/b", 0700));
    DO(unlinkat(folder, "b", AT_REMOVEDIR));
    DO(mkdir("data/c", 0700));
    DO(remove("data/c"));
    DO(rename("data/kept/below", "data/kept/renamed"));
    DO(fsync(folder));
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    DO(chdir(arguments[1]));
    DO(mkdir("data", 0700));
    int folder = open("data", O_RDONLY | O_DIRECTORY);
    DO(folder);
    bytes();
    lengths();
    names(folder);
    folders(folder);
    return 0;
}
