/* How much a TCP connection has brought, whoever has read it. By itself because the kernel's header
 * and the C library's, which libuv's includes, each have a tcp_info, and only the kernel's has this
 * in it. */
#ifndef RELAY_TAKEN_H
#define RELAY_TAKEN_H

#include <stdint.h>

/* Bytes that the kernel has received; 0 when the descriptor is no TCP connection. */
uint64_t taken_bytes(int descriptor);

#endif
