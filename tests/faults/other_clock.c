/* A time of day that is off by the seconds in a file, read anew at each call; every other clock stays what it is.

   Preloaded into a process. libfaketime does the same and more, but makes every time.sleep of Python fail: that
   sleeps until a moment of the monotonic clock, which libfaketime takes for one of its own (0.9.10, with
   FAKETIME_DONT_FAKE_MONOTONIC). */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long off_by(void) {
    const char *file = getenv("CLOCK_OFFSET_FILE");
    FILE *opened = file ? fopen(file, "r") : NULL;
    long seconds = 0;
    if (opened) {
        if (fscanf(opened, "%ld", &seconds) != 1) seconds = 0;
        fclose(opened);
    }
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *told) {
    int failed = (int)syscall(SYS_clock_gettime, clock, told);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) told->tv_sec += off_by();
    return failed;
}

int gettimeofday(struct timeval *restrict told, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    told->tv_sec = now.tv_sec;
    told->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *told) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (told) *told = now.tv_sec;
    return now.tv_sec;
}
