/* The settings of reaper: one row each, in config.c, is all there is to add one. */
#ifndef REAPER_CONFIG_H
#define REAPER_CONFIG_H

#include "common/settings.h"

#include <stddef.h>

struct config {
    struct settings_common common;
    const char *database_url; /* NULL: libpq's PG* variables alone */
    long interval;            /* seconds */
    long retention;           /* seconds */
};

extern const struct setting config_settings[];
extern const size_t config_settings_count;

/* Checks what the table cannot: 0, or EX_CONFIG after saying why. `config` is a struct config. */
int config_check(void *config);

#endif
