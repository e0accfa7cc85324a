/* Halving a batch: see the header. */
#include "storer/plan.h"

void plan_init(struct plan *plan, size_t count)
{
    *plan = (struct plan){.waiting = {{0, count}}, .depth = count > 0};
}

const struct plan_segment *plan_next(const struct plan *plan)
{
    return plan->depth > 0 ? &plan->waiting[plan->depth - 1] : NULL;
}

void plan_done(struct plan *plan)
{
    plan->depth--;
    plan->failures = 0;
}

bool plan_halve(struct plan *plan)
{
    struct plan_segment *whole = &plan->waiting[plan->depth - 1];
    if (whole->count < 2)
        return false;
    struct plan_segment former = {whole->first, whole->count / 2};
    whole->first += former.count;
    whole->count -= former.count;
    plan->waiting[plan->depth++] = former;
    plan->failures = 0;
    return true;
}

bool plan_failed(struct plan *plan)
{
    return ++plan->failures >= PLAN_PATIENCE;
}
