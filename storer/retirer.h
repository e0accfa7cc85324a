/* What becomes of the files of a batch whose fate is known. Blocks; for the pool. */
#ifndef STORER_RETIRER_H
#define STORER_RETIRER_H

#include "storer/batch.h"

#include <stdbool.h>

/* Removes what is stored or expired (or moves it from new/ to cur/, if `keep`), sets aside what was
 * refused, leaves the rest, and logs each. Only for a batch whose COMMIT has been read. What cannot
 * be moved is logged and stays: it is stored again, to no effect, when a scan next finds it. */
void retirer_run(const struct spool *spool, const struct batch *batch, bool keep);

#endif
