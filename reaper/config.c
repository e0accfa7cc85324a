/* The table of settings, and the check that needs more than a range. */
#include "reaper/config.h"

#include "common/pgtarget.h"

#include <sysexits.h>

/* The bounds of the retention are those of set_retention() in sql/retention.sql: less than a second
 * keeps nothing, more than a year has more days than a mailbox can be looked up in. Those of the
 * interval: partitions are made two weeks ahead, and mail may stay an interval too long. */
const struct setting config_settings[] = {
    SETTINGS_COMMON(struct config, common),
    {.name = "DATABASE_URL",
     .type = SETTING_CONNINFO,
     .meaning = "libpq connection string, several hosts allowed; PG* variables where it is silent",
     .offset = offsetof(struct config, database_url)},
    {.name = "REAPER_INTERVAL",
     .type = SETTING_NUMBER,
     .fallback = "3600",
     .minimum = 1,
     .maximum = 86400,
     .meaning = "seconds between passes",
     .offset = offsetof(struct config, interval)},
    {.name = "REAPER_RETENTION",
     .type = SETTING_NUMBER,
     .fallback = "604800",
     .minimum = 1,
     .maximum = 366 * 86400L,
     .meaning = "seconds that mail is kept",
     .offset = offsetof(struct config, retention)},
};
const size_t config_settings_count = sizeof config_settings / sizeof *config_settings;

int config_check(void *data)
{
    const struct config *config = data;

    if (config->database_url != NULL && !pgtarget_check(config->database_url))
        return settings_refuse(config_settings, config_settings_count, "DATABASE_URL",
                               "a libpq connection string or postgresql:// URI");
    return EX_OK;
}
