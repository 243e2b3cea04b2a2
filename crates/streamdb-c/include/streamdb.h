/* StreamDB for C: a durable store of values under keys, in a directory.
 *
 * Acknowledged means on disk: when streamdb_insert or streamdb_delete returns STREAMDB_OK, a killed
 * process or a power cut no longer takes it back. A handle may be used by many threads at once.
 * Keys are UTF-8, 1 to 1024 bytes, without NUL; they need no NUL at their end.
 * Link with: pkg-config --static --cflags --libs streamdb
 */
#ifndef STREAMDB_H
#define STREAMDB_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define STREAMDB_OK 0
#define STREAMDB_IO (-1)        /* the system refused: the disk is full, the store is held, ... */
#define STREAMDB_NOT_FOUND (-2) /* there is no value under the key */
#define STREAMDB_INVALID (-3)   /* an argument is NULL, no key, or too long */
#define STREAMDB_INTERNAL (-4)  /* a defect of the library; it has changed nothing more */
#define STREAMDB_CORRUPTED (-5) /* the stored bytes are not those that were written */

typedef struct streamdb streamdb;

typedef struct streamdb_results {
    char **keys;     /* NUL-terminated */
    size_t *lengths; /* of the keys in bytes, without the NUL */
    size_t count;
    int more;        /* 1 if there are keys beyond the limit */
} streamdb_results;

typedef struct streamdb_stats_t {
    uint64_t keys;
    uint64_t bytes; /* sum of the sizes of all values */
} streamdb_stats_t;

/* Opens the store in a directory, and makes it if there is none. */
int streamdb_open(const char *directory, streamdb **store);

/* Closes a store; NULL is passed over. No other call on it may be under way. */
void streamdb_close(streamdb *store);

/* Stores a value, also in place of another. `value` may be NULL if `length` is 0. */
int streamdb_insert(streamdb *store, const char *key, size_t key_length,
                    const uint8_t *value, size_t length);

/* Reads a value into a buffer that streamdb_free_buffer takes back. */
int streamdb_get(streamdb *store, const char *key, size_t key_length,
                 uint8_t **value, size_t *length);

/* STREAMDB_OK if there is a value, STREAMDB_NOT_FOUND if not. */
int streamdb_exists(streamdb *store, const char *key, size_t key_length);

/* Deletes a value; STREAMDB_NOT_FOUND if there was none. */
int streamdb_delete(streamdb *store, const char *key, size_t key_length);

/* Finds keys that end so, at most `limit` of them, in the order of their bytes read backwards.
 * streamdb_free_search_results takes the results back. */
int streamdb_suffix_search(streamdb *store, const char *suffix, size_t suffix_length,
                           size_t limit, streamdb_results **results);
void streamdb_free_search_results(streamdb_results *results);

/* Nothing is ever left to flush; only tells whether the store can still be read. */
int streamdb_flush(streamdb *store);

int streamdb_stats(streamdb *store, streamdb_stats_t *stats);

/* Number of keys, or a negative status. */
int64_t streamdb_len(streamdb *store);

/* Takes a buffer of streamdb_get back, with the length that came with it; NULL is passed over. */
void streamdb_free_buffer(uint8_t *buffer, size_t length);

/* The library's version; never freed. */
const char *streamdb_version(void);

#ifdef __cplusplus
}
#endif

#endif
