/* The settings of relay: one row each, in config.c, is all there is to add one. */
#ifndef RELAY_CONFIG_H
#define RELAY_CONFIG_H

#include "common/settings.h"
#include "queue/site.h"

#include <stddef.h>

struct config {
    struct settings_common common;
    struct site_settings site;
    const char *host;
    long port;
    int tls; /* enum channel_tls */
    const char *ca;
    const char *user;
    const char *password;
    const char *password_file;
    const char *token_file;
    long connections;
    long max_age; /* seconds, as all times here */
    long timeout;
    long rescan;
};

extern const struct setting config_settings[];
extern const size_t config_settings_count;

/* Checks what the table cannot, and fills in the host's name. 0, or EX_CONFIG after saying why. */
int config_check(void *config);

#endif
