/* The spool: queues of messages as files in directories, the only thing that passes between
 * Mayfly's programs.
 *
 *     $SPOOL/store/{tmp,new,cur,failed}      for storer
 *     $SPOOL/relay/{tmp,new,cur,failed}      for relay
 *
 * A message's state is which file exists; every change of state is one rename or one unlink, so
 * there is no moment, whatever is killed, at which it has no state or two:
 *
 *     file        state                               who moves it on, and how
 *     ----        -----                               ------------------------
 *     tmp/ID      being received, not acknowledged    smtpd: rename to new/ID, or unlink
 *     new/ID      complete, to be stored or sent      storer: unlink, or rename to cur/ID
 *                                                     relay: cur/ID written, then unlink
 *     cur/ID      of store/: stored, kept a while     storer: inserted once more, then unlink
 *                 of relay/: what is left of it,      relay: one with less renamed over it, or
 *                 when it was tried                   unlink when nothing is left
 *     failed/ID   given up, of relay/ for those in    reaper: unlink after the retention
 *                 it; ID.reason says why
 *     none        done, or never accepted
 *
 * A message for both queues is one file in each under the same id, each with its own recipients,
 * and from its acceptance on the two know nothing of each other.
 *
 * Crash argument, by what dies between two steps:
 * - smtpd before the rename: tmp/ID is left, was never acknowledged, and is swept by reaper after
 *   36 hours; no reader ever looks into tmp/.
 * - smtpd between the rename and the answer: the client was not told, may send again, and that is
 *   another message with another id: SMTP's own at-least-once (RFC 5321, section 6.1).
 * - the power, before the commit is done (queue/commit.h): as if smtpd had died before it; a name
 *   in new/ without its bytes is known by X-Envelope-Size and is set aside.
 * - the power, after it: file, contents and name are on the disk. That is what 250 means.
 * - smtpd or the power between the two renames of a message for both queues: store/new/ID may be
 *   there, relay's is in tmp/. The client was not told and sends all of it again; those whose mail
 *   is stored here have it twice. store's comes first since a copy too many in a mailbox here is
 *   better than one that was sent to the world.
 * - storer between COMMIT and unlink: new/ID is inserted again, which its key makes a no-op.
 * - relay between the smarthost's reply and its record of it: those that were accepted are sent to
 *   again. That is as long as one flush, and cannot be less.
 * - relay between cur/ID and the unlink of new/ID: cur/ID counts, and new/ID is unlinked when
 *   either is loaded, for it has recipients that are done with.
 * - relay between failed/ID and the cur/ID that is left without its recipients: what is still left
 *   to do has them all, so they are known to have failed, are not sent to again, and have the one
 *   notification that was written before failed/ID was (relay/steps.c).
 * - set-aside: the reason is written first, then one rename moves the message, so a message in
 *   failed/ has its reason; a reason without a message is replaced when it is tried again.
 *
 * The functions of queue/ block and know no event loop, but for queue/watcher.h and queue/census.h,
 * which give them to the pool. A struct spool may be used by any thread once open. */
#ifndef QUEUE_SPOOL_H
#define QUEUE_SPOOL_H

#include <stdint.h>

enum queue { QUEUE_STORE, QUEUE_RELAY, QUEUE_COUNT };
enum queue_directory { QUEUE_TMP, QUEUE_NEW, QUEUE_CUR, QUEUE_FAILED, QUEUE_DIRECTORY_COUNT };

/* `Received` fields above which a message is taken to go in circles (RFC 5321, section 6.3). */
enum { QUEUE_HOPS_MAX = 100 };

enum { SPOOL_DIRECTORY_MODE = 02770, SPOOL_FILE_MODE = 0640 };

struct spool {
    char *path;              /* as given */
    int root;                /* descriptor of the spool directory */
    int queues[QUEUE_COUNT]; /* descriptors of store/ and relay/ */
    int directories[QUEUE_COUNT][QUEUE_DIRECTORY_COUNT];
};

/* Names in the file system: `store`, `new`. */
extern const char *const queue_names[QUEUE_COUNT];
extern const char *const queue_directory_names[QUEUE_DIRECTORY_COUNT];

/* Opens the spool at `path`; makes it and whatever directory of it is missing, with mode 2770.
 * Several programs may do so at once. Returns 0, or an errno value after logging what failed, with
 * nothing left open. */
int spool_open(struct spool *spool, const char *path);

/* As spool_open, but makes nothing: ENOENT, unlogged, when the spool or a part of it is not there.
 */
int spool_open_existing(struct spool *spool, const char *path);

/* Closes every descriptor. Harmless twice. */
void spool_close(struct spool *spool);

/* Takes the lock of a queue, which one reader of it holds at a time: a descriptor that holds the
 * lock until it is closed or the process ends, however it ends; or -1 with errno, EWOULDBLOCK when
 * another process has it. Does not wait. */
int spool_lock(const struct spool *spool, enum queue queue);

/* The path of a directory of the spool, allocated; NULL when memory is out. */
char *spool_directory_path(const struct spool *spool, enum queue queue,
                           enum queue_directory directory);

/* Room that an unprivileged user may still fill on the file system of a queue: bytes, and files
 * (UINT64_MAX where the file system does not count them). Returns 0 or an errno value. */
int spool_room(const struct spool *spool, enum queue queue, uint64_t *bytes, uint64_t *files);

#endif
