/* Makes file I/O of a process fail, by LD_PRELOAD, while it runs.
 *
 *   cc -shared -fPIC -O2 -o faults.so faults.c -ldl -lpthread
 *   LD_PRELOAD=faults.so RINGFS_FAULTS=/some/control ringfs datanode ...
 *
 * The control file is looked at before each call; put a new one in place by rename. It has one rule a line:
 *
 *   OP ERROR PATTERN [SKIP [TIMES]]
 *
 *   OP       open, read, write, fsync, allocate, truncate, rename, unlink, mkdir, or * for all of these; `change` for all but
 *            open, read and mkdir.
 *            read: read, readv, pread, preadv, preadv2, sendfile; write: write, writev, pwrite, pwritev, pwritev2;
 *            fsync: fsync, fdatasync; allocate: fallocate, posix_fallocate; truncate: ftruncate.
 *   ERROR    a number of errno, EIO, ENOSPC, EROFS, EDQUOT or ENOMEM; `short`: half of what was asked is read or written; or
 *            `kill`: the process ends before the call, as by kill -9.
 *   PATTERN  a part of the path of the file (of a directory, for mkdir; of the source, for rename); no spaces.
 *   SKIP     calls that match and still succeed before the first that fails; 0 when absent.
 *   TIMES    how many then fail; all when absent.
 *
 * The first rule that matches decides. Counts begin anew whenever the file changes. An absent or empty file: no faults.
 * How many calls were made to fail is appended, a line each (OP PATH), to RINGFS_FAULTS with `.hits` behind it.
 *
 * What goes through io_uring is not seen: use `engine = "threads"` for a datanode and `io_uring = "off"` for a namenode.
 * Sockets and pipes have no path and never fail here. Memory that is mapped is not seen either.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define RULES_MAX 32
#define TEXT_MAX 8192
#define SHORT (-1)
#define KILL (-2)

struct rule {
  char op[16];
  char pattern[512];
  int error;
  long skip;
  long times; /* negative: all */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rule rules[RULES_MAX];
static int rule_count;
static struct stat seen;

static int number_of(const char *name) {
  if (!strcmp(name, "short")) return SHORT;
  if (!strcmp(name, "kill")) return KILL;
  if (!strcmp(name, "EIO")) return EIO;
  if (!strcmp(name, "ENOSPC")) return ENOSPC;
  if (!strcmp(name, "EROFS")) return EROFS;
  if (!strcmp(name, "EDQUOT")) return EDQUOT;
  if (!strcmp(name, "ENOMEM")) return ENOMEM;
  return atoi(name);
}

/* Only bare system calls here: the functions below are our own. */
static void load(void) {
  const char *path = getenv("RINGFS_FAULTS");
  struct stat now;
  if (!path || syscall(SYS_newfstatat, AT_FDCWD, path, &now, 0) != 0) {
    rule_count = 0;
    memset(&seen, 0, sizeof seen);
    return;
  }
  if (now.st_ino == seen.st_ino && now.st_size == seen.st_size && now.st_mtim.tv_sec == seen.st_mtim.tv_sec &&
      now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec)
    return;
  seen = now;
  rule_count = 0;
  char text[TEXT_MAX];
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  long len = syscall(SYS_read, fd, text, sizeof text - 1);
  syscall(SYS_close, fd);
  if (len < 0) return;
  text[len] = 0;
  char *rest = text, *line;
  while (rule_count < RULES_MAX && (line = strsep(&rest, "\n"))) {
    struct rule *rule = &rules[rule_count];
    char error[16] = "";
    rule->skip = 0;
    rule->times = -1;
    if (sscanf(line, "%15s %15s %511s %ld %ld", rule->op, error, rule->pattern, &rule->skip, &rule->times) < 3) continue;
    rule->error = number_of(error);
    rule_count++;
  }
}

static void note(const char *op, const char *path) {
  const char *control = getenv("RINGFS_FAULTS");
  char name[4096], line[4200];
  if (!control || snprintf(name, sizeof name, "%s.hits", control) >= (int)sizeof name) return;
  int len = snprintf(line, sizeof line, "%s %s\n", op, path);
  int fd = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return;
  if (len > 0) (void)syscall(SYS_write, fd, line, (size_t)len < sizeof line ? (size_t)len : sizeof line - 1);
  syscall(SYS_close, fd);
}

static int is_of(const char *op, const char *rule) {
  int is_change = strcmp(op, "open") && strcmp(op, "read") && strcmp(op, "mkdir");
  return !strcmp(rule, "*") || !strcmp(rule, op) || (is_change && !strcmp(rule, "change"));
}

/* The error that an operation on a path shall have; 0: none. */
static int fault_of(const char *op, const char *path) {
  int saved = errno, error = 0;
  pthread_mutex_lock(&lock);
  load();
  for (int at = 0; at < rule_count; at++) {
    struct rule *rule = &rules[at];
    if (!is_of(op, rule->op) || !strstr(path, rule->pattern)) continue;
    if (rule->skip > 0) {
      rule->skip--;
    } else if (rule->times != 0) {
      if (rule->times > 0) rule->times--;
      error = rule->error;
      note(op, path);
      if (error == KILL) kill(getpid(), SIGKILL);
    }
    break;
  }
  pthread_mutex_unlock(&lock);
  errno = saved;
  return error;
}

static int has_rules(void) {
  pthread_mutex_lock(&lock);
  int saved = errno;
  load();
  errno = saved;
  int count = rule_count;
  pthread_mutex_unlock(&lock);
  return count;
}

static int fault_of_fd(const char *op, int fd) {
  if (!has_rules()) return 0;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  int saved = errno;
  long len = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
  errno = saved;
  if (len <= 0 || path[0] != '/') return 0;
  path[len] = 0;
  return fault_of(op, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
/* Fails, or cuts `len` to a half. */
#define FAULT(op, fd, len, failed)              \
  int error = fault_of_fd(op, fd);              \
  if (error == SHORT) {                         \
    if ((len) > 1) (len) = (len) / 2;           \
  } else if (error) {                           \
    errno = error;                              \
    return failed;                              \
  }

ssize_t read(int fd, void *to, size_t len) { FAULT("read", fd, len, -1) return REAL(read)(fd, to, len); }
ssize_t write(int fd, const void *from, size_t len) { FAULT("write", fd, len, -1) return REAL(write)(fd, from, len); }
ssize_t pread(int fd, void *to, size_t len, off_t at) { FAULT("read", fd, len, -1) return REAL(pread)(fd, to, len, at); }
ssize_t pread64(int fd, void *to, size_t len, off64_t at) { FAULT("read", fd, len, -1) return REAL(pread64)(fd, to, len, at); }
ssize_t pwrite(int fd, const void *from, size_t len, off_t at) { FAULT("write", fd, len, -1) return REAL(pwrite)(fd, from, len, at); }
ssize_t pwrite64(int fd, const void *from, size_t len, off64_t at) { FAULT("write", fd, len, -1) return REAL(pwrite64)(fd, from, len, at); }

/* Of several parts, a short operation takes the first half of the first. */
#define VECTORED(op, call_all, call_one)        \
  int error = fault_of_fd(op, fd);              \
  if (error == SHORT && count > 0) {            \
    struct iovec half = parts[0];               \
    if (half.iov_len > 1) half.iov_len /= 2;    \
    const struct iovec *one = &half;            \
    return call_one;                            \
  }                                             \
  if (error > 0) {                              \
    errno = error;                              \
    return -1;                                  \
  }                                             \
  return call_all;

ssize_t readv(int fd, const struct iovec *parts, int count) { VECTORED("read", REAL(readv)(fd, parts, count), REAL(readv)(fd, one, 1)) }
ssize_t writev(int fd, const struct iovec *parts, int count) { VECTORED("write", REAL(writev)(fd, parts, count), REAL(writev)(fd, one, 1)) }
ssize_t preadv(int fd, const struct iovec *parts, int count, off_t at) { VECTORED("read", REAL(preadv)(fd, parts, count, at), REAL(preadv)(fd, one, 1, at)) }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { VECTORED("write", REAL(pwritev)(fd, parts, count, at), REAL(pwritev)(fd, one, 1, at)) }
ssize_t preadv64(int fd, const struct iovec *parts, int count, off64_t at) { VECTORED("read", REAL(preadv64)(fd, parts, count, at), REAL(preadv64)(fd, one, 1, at)) }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { VECTORED("write", REAL(pwritev64)(fd, parts, count, at), REAL(pwritev64)(fd, one, 1, at)) }
ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t at, int flags) { VECTORED("read", REAL(preadv2)(fd, parts, count, at, flags), REAL(preadv2)(fd, one, 1, at, flags)) }
ssize_t preadv64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags) { VECTORED("read", REAL(preadv64v2)(fd, parts, count, at, flags), REAL(preadv64v2)(fd, one, 1, at, flags)) }
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t at, int flags) { VECTORED("write", REAL(pwritev2)(fd, parts, count, at, flags), REAL(pwritev2)(fd, one, 1, at, flags)) }
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags) { VECTORED("write", REAL(pwritev64v2)(fd, parts, count, at, flags), REAL(pwritev64v2)(fd, one, 1, at, flags)) }
ssize_t sendfile(int to, int from, off_t *at, size_t len) { FAULT("read", from, len, -1) return REAL(sendfile)(to, from, at, len); }
ssize_t sendfile64(int to, int from, off64_t *at, size_t len) { FAULT("read", from, len, -1) return REAL(sendfile64)(to, from, at, len); }

#define WHOLE(op, fd)                           \
  int error = fault_of_fd(op, fd);              \
  if (error > 0) {                              \
    errno = error;                              \
    return -1;                                  \
  }
int fsync(int fd) { WHOLE("fsync", fd) return REAL(fsync)(fd); }
int fdatasync(int fd) { WHOLE("fsync", fd) return REAL(fdatasync)(fd); }
int fallocate(int fd, int mode, off_t at, off_t len) { WHOLE("allocate", fd) return REAL(fallocate)(fd, mode, at, len); }
int fallocate64(int fd, int mode, off64_t at, off64_t len) { WHOLE("allocate", fd) return REAL(fallocate64)(fd, mode, at, len); }
int posix_fallocate(int fd, off_t at, off_t len) {
  int error = fault_of_fd("allocate", fd);
  return error > 0 ? error : REAL(posix_fallocate)(fd, at, len);
}
int posix_fallocate64(int fd, off64_t at, off64_t len) {
  int error = fault_of_fd("allocate", fd);
  return error > 0 ? error : REAL(posix_fallocate64)(fd, at, len);
}
int ftruncate(int fd, off_t len) { WHOLE("truncate", fd) return REAL(ftruncate)(fd, len); }
int ftruncate64(int fd, off64_t len) { WHOLE("truncate", fd) return REAL(ftruncate64)(fd, len); }

#define NAMED(op, path)                         \
  int error = fault_of(op, path);               \
  if (error > 0) {                              \
    errno = error;                              \
    return -1;                                  \
  }
#define MODE()                                  \
  mode_t mode = 0;                              \
  if (flags & (O_CREAT | O_TMPFILE)) {          \
    va_list rest;                               \
    va_start(rest, flags);                      \
    mode = va_arg(rest, mode_t);                \
    va_end(rest);                               \
  }
int open(const char *path, int flags, ...) { MODE() NAMED("open", path) return REAL(open)(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE() NAMED("open", path) return REAL(open64)(path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE() NAMED("open", path) return REAL(openat)(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE() NAMED("open", path) return REAL(openat64)(dir, path, flags, mode); }
int rename(const char *source, const char *target) { NAMED("rename", source) return REAL(rename)(source, target); }
int unlink(const char *path) { NAMED("unlink", path) return REAL(unlink)(path); }
int mkdir(const char *path, mode_t mode) { NAMED("mkdir", path) return REAL(mkdir)(path, mode); }
