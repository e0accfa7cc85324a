/* Connections by client: see the header. */
#include "smtpd/clients.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct clients_entry {
    struct clients_entry *next;
    struct address client;
    unsigned connections;
};

bool clients_init(struct clients *clients, size_t expected, uint64_t seed)
{
    *clients = (struct clients){.bucket_count = 64, .seed = seed};
    while (clients->bucket_count < expected)
        clients->bucket_count *= 2;
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): each is a pointer */
    clients->buckets = calloc(clients->bucket_count, sizeof *clients->buckets);
    return clients->buckets != NULL;
}

void clients_free(struct clients *clients)
{
    for (size_t i = 0; i < clients->bucket_count && clients->buckets != NULL; i++) {
        while (clients->buckets[i] != NULL) {
            struct clients_entry *entry = clients->buckets[i];
            clients->buckets[i] = entry->next;
            free(entry);
        }
    }
    free(clients->buckets);
    *clients = (struct clients){0};
}

/* Multiplying and folding with a secret in between (as wyhash does): the bucket cannot be foretold
 * from the address. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static struct clients_entry **find(const struct clients *clients, const struct address *client)
{
    uint64_t high, low;
    struct clients_entry **entry;

    memcpy(&high, client->bytes, sizeof high);
    memcpy(&low, client->bytes + 8, sizeof low);
    high = mix(high ^ clients->seed, 0x9e3779b97f4a7c15u ^ low);
    high = mix(high ^ clients->seed, 0xd1b54a32d192ed03u);
    entry = &clients->buckets[high & (clients->bucket_count - 1)];
    while (*entry != NULL && memcmp(&(*entry)->client, client, sizeof *client) != 0)
        entry = &(*entry)->next;
    return entry;
}

unsigned clients_enter(struct clients *clients, const struct address *address)
{
    struct address client = address_client(address);
    struct clients_entry **entry = find(clients, &client);

    if (*entry == NULL) {
        *entry = calloc(1, sizeof **entry);
        if (*entry == NULL)
            return 0;
        (*entry)->client = client;
    }
    return ++(*entry)->connections;
}

void clients_leave(struct clients *clients, const struct address *address)
{
    struct address client = address_client(address);
    struct clients_entry **entry = find(clients, &client);
    struct clients_entry *gone = *entry;

    assert(gone != NULL);
    if (--gone->connections > 0)
        return;
    *entry = gone->next;
    free(gone);
}
