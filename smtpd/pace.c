/* The pace of clients: see the header. */
#include "smtpd/pace.h"

void pace_begin(struct pace *pace, uint64_t now)
{
    *pace = (struct pace){.began = now, .stretch = now, .progress = now};
}

void pace_count(struct pace *pace, uint64_t now, uint64_t octets)
{
    pace->progress = now;
    pace->octets += octets;
}

void pace_excuse(struct pace *pace, uint64_t now)
{
    pace->stretch = now;
    pace->progress = now;
    pace->octets = 0;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

enum pace_verdict pace_judge(struct pace *pace, const struct pace_limits *limits, uint64_t now,
                             uint64_t *deadline)
{
    if (now >= pace->progress + limits->timeout)
        return PACE_SILENT;
    if (now >= pace->began + limits->max_time)
        return PACE_SLOW;
    if (now >= pace->stretch + limits->timeout) {
        if (pace->octets < limits->minimum)
            return PACE_SLOW;
        pace->stretch = now;
        pace->octets = 0;
    }
    *deadline = earlier(pace->progress + limits->timeout,
                        earlier(pace->stretch + limits->timeout, pace->began + limits->max_time));
    return PACE_OK;
}
