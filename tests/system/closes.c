/* Linked into whatever is built with SANITIZE=thread, which looks for races of descriptors as well: a
 * number that one thread closes while another uses it. libuv closes by syscall(), which
 * ThreadSanitizer does not see, so it would take the next file of that number, in another thread, for
 * the one before it. */
#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef long system_call(long number, ...);

long syscall(long number, ...)
{
    static system_call *real;
    long arguments[6];
    va_list list;

    va_start(list, number);
    for (size_t i = 0; i < sizeof arguments / sizeof *arguments; i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_close)
        return close((int)arguments[0]);
    if (real == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "syscall");
        memcpy(&real, &symbol, sizeof real); /* ISO C has no conversion for it */
    }
    return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                arguments[5]);
}
