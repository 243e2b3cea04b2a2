/* Stores a value, reads it back, and finds it by the end of its name. */
#include <stdio.h>
#include <string.h>
#include <streamdb.h>

static int failed(const char *doing, int status) {
    fprintf(stderr, "could not %s: status %d\n", doing, status);
    return 1;
}

int main(int argc, char **argv) {
    const char *key = "takes/one.wav";
    streamdb *store = NULL;
    streamdb_results *found = NULL;
    streamdb_stats_t stats;
    uint8_t *value = NULL;
    size_t length = 0;
    int status;

    if (argc != 2) {
        fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
        return 2;
    }
    if ((status = streamdb_open(argv[1], &store)) != STREAMDB_OK) return failed("open", status);
    status = streamdb_insert(store, key, strlen(key), (const uint8_t *)"RIFF", 4);
    if (status != STREAMDB_OK) return failed("insert", status);
    status = streamdb_get(store, key, strlen(key), &value, &length);
    if (status != STREAMDB_OK) return failed("get", status);
    printf("%s: %.*s\n", key, (int)length, (const char *)value);
    streamdb_free_buffer(value, length);
    status = streamdb_suffix_search(store, ".wav", 4, 10, &found);
    if (status != STREAMDB_OK) return failed("search", status);
    for (size_t at = 0; at < found->count; at++) printf("found %s\n", found->keys[at]);
    streamdb_free_search_results(found);
    if ((status = streamdb_stats(store, &stats)) != STREAMDB_OK) return failed("count", status);
    printf("%llu keys, %llu bytes, version %s\n", (unsigned long long)stats.keys,
           (unsigned long long)stats.bytes, streamdb_version());
    if (streamdb_exists(store, "none", 4) != STREAMDB_NOT_FOUND) return 1;
    if (streamdb_insert(store, "", 0, NULL, 0) != STREAMDB_INVALID) return 1;
    if (streamdb_get(NULL, key, strlen(key), &value, &length) != STREAMDB_INVALID) return 1;
    if ((status = streamdb_delete(store, key, strlen(key))) != STREAMDB_OK)
        return failed("delete", status);
    if (streamdb_delete(store, key, strlen(key)) != STREAMDB_NOT_FOUND) return 1;
    if (streamdb_flush(store) != STREAMDB_OK || streamdb_len(store) != 0) return 1;
    streamdb_close(store);
    return 0;
}
