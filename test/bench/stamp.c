/* The payload of the start-up benchmark: prints the time of its first instructions, in microseconds. */
#include <stdio.h>
#include <time.h>

int main(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  printf("%lld\n", now.tv_sec * 1000000LL + now.tv_nsec / 1000);
  return 0;
}
