/* Preloaded into a program under test: counts every call on files, sockets and the loop by the place
 * that makes it, and makes the calls of one place fail, or do half, as often as a test wants.
 *
 * Unlike fault.c, which knows a few calls and lets a test watch their order, this one is for trying
 * all there are: a test first lets the program run and reads which calls it made where, and then
 * strikes each of them.
 *
 * Both sides share a page, the file STRIKE_BOARD, mapped before the program is confined. So it takes
 * no system call to learn of a plan or to count, which a confined program might not be given, and
 * which would be taken for the program's own. What lies under STRIKE_UNDER is the spool; else only
 * what kind of thing a descriptor is counts, for which errors are possible depends on it. */
#include "strike.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AS_TEXT(name) #name

static const char *const call_names[] = {CALLS(AS_TEXT)};

enum {
    OBJECTS = 64,
    NAMES = 96,
    PLACES = 2048, /* more than twice as many as were ever seen, for it is a hash table */
    DESCRIPTORS = 1 << 16
};

/* Shared with the test, which knows it as well (strike.py). */
struct board {
    atomic_uint armed;
    uint32_t call, object; /* the place that is meant, when `any` is 0 */
    int32_t error;
    uint64_t offset; /* within the object */
    uint32_t any;    /* or every call on the spool that is marked below */
    atomic_int skip, times;
    atomic_uint struck;
    atomic_ullong calls;
    uint8_t marked[NAMES];
    struct object {
        uint64_t base, end;
        char name[112];
    } objects[OBJECTS];
    char names[NAMES][24];
    struct place {
        atomic_ullong key; /* the return address and the call; 0: free */
        atomic_ullong count;
        atomic_uint kind, unused;
    } places[PLACES];
};

_Static_assert((int)CALL_COUNT <= (int)NAMES && (int)CALL_COUNT < 256,
               "a call is a byte of the key");

static struct board *board;
static _Atomic unsigned char kinds[DESCRIPTORS];

/* The beginning, before the program is confined. */

static int note_object(struct dl_phdr_info *info, size_t size, void *data)
{
    unsigned *count = data;
    struct object *object = &board->objects[*count];

    (void)size;
    if (*count == OBJECTS)
        return 1;
    object->base = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uint64_t end = info->dlpi_addr + segment->p_vaddr + segment->p_memsz;
        if (segment->p_type == PT_LOAD && end > object->end)
            object->end = end;
    }
    const char *slash = strrchr(info->dlpi_name, '/');
    snprintf(object->name, sizeof object->name, "%s", slash ? slash + 1 : info->dlpi_name);
    ++*count;
    return 0;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("STRIKE_BOARD");
    int file = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *there = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (there == MAP_FAILED)
        return;
    board = there;
    for (int call = 0; call < CALL_COUNT; call++)
        snprintf(board->names[call], sizeof board->names[call], "%s", call_names[call]);
    unsigned count = 0;
    dl_iterate_phdr(note_object, &count);
}

/* A call. */

enum kind kind_of(int descriptor)
{
    return descriptor >= 0 && descriptor < DESCRIPTORS ? kinds[descriptor] : KIND_OTHER;
}

int become(int descriptor, enum kind kind)
{
    if (descriptor >= 0 && descriptor < DESCRIPTORS)
        kinds[descriptor] = (unsigned char)kind;
    return descriptor;
}

enum kind kind_at(int directory, const char *path)
{
    static const char *under;
    if (path == NULL || path[0] != '/')
        return kind_of(directory);
    if (under == NULL)
        under = getenv("STRIKE_UNDER");
    return under && strncmp(path, under, strlen(under)) == 0 ? KIND_SPOOL : KIND_OTHER;
}

static void count(enum call call, enum kind kind, uintptr_t address)
{
    uint64_t key = (uint64_t)address << 8 | call;
    uint64_t hash = (key ^ key >> 29) * UINT64_C(0x9e3779b97f4a7c15);

    for (unsigned i = 0; i < PLACES; i++) {
        struct place *place = &board->places[((hash >> 40) + i) % PLACES];
        unsigned long long there = 0;
        if (atomic_load(&place->key) == key ||
            atomic_compare_exchange_strong(&place->key, &there, key) || there == key) {
            place->count++;
            place->kind = kind;
            return;
        }
    }
}

static bool is_meant(enum call call, enum kind kind, uintptr_t address)
{
    if (board->any)
        return kind == KIND_SPOOL && board->marked[call];
    return board->call == (uint32_t)call &&
           address - board->objects[board->object].base == board->offset;
}

bool strike(enum call call, enum kind kind, const void *from)
{
    uintptr_t address = (uintptr_t)from;

    if (board == NULL)
        return false;
    board->calls++;
    count(call, kind, address);
    if (!board->armed || !is_meant(call, kind, address))
        return false;
    if (board->skip > 0 && board->skip-- > 0)
        return false;
    if (board->times-- <= 0) {
        board->times++;
        return false;
    }
    board->struck++;
    errno = board->error;
    return true;
}

bool strike_on(enum call call, int descriptor, const void *from)
{
    if (!strike(call, kind_of(descriptor), from))
        return false;
    int error = errno;
    if (error == EPIPE || error == ECONNRESET || error == ETIMEDOUT)
        syscall(SYS_shutdown, descriptor, SHUT_RDWR);
    errno = error;
    return true;
}
