/*
 * A library of a hostile image: when it is loaded it tells on descriptor 2, in one line, who is loading it and with
 * which rights: "loaded ROLE|COMMAND LINE|STATUS OF THE PROCESS", line breaks as spaces. Without a C library, so that it fits any image.
 */
static long call(long number, long a, long b, long c) {
  long result;
#if defined(__x86_64__)
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
#else
  register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  result = x0;
#endif
  return result;
}

#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, OPEN = 2, CLOSE = 3 };
#define open_file(path) call(OPEN, (long)(path), 0, 0)
#else
enum { READ = 63, WRITE = 64, OPENAT = 56, CLOSE = 57 };
#define open_file(path) call(OPENAT, -100, (long)(path), 0)
#endif

static char line[8192];
static long used;

static void put(const char *text) {
  while (*text) line[used++] = *text++;
}

static void put_file(const char *path) {
  long file = open_file(path), count = call(READ, file, (long)(line + used), 3000);
  for (; count > 0; count--, used++)
    if (line[used] < ' ') line[used] = ' ';
  call(CLOSE, file, 0, 0);
  put("|");
}

__attribute__((constructor)) static void loaded(void) {
  put("loaded " ROLE "|");
  put_file("/proc/self/cmdline");
  put_file("/proc/self/status");
  put("\n");
  call(WRITE, 2, (long)line, used);
}
