/* The earlier edition at the work of bin/library.rs, through its own C functions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "streamdb.h"

enum { GETS = 200000, SEARCHES = 2000, FLUSHED = 3, SHARED = 200 };

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void must(int status, const char *what) {
	if (status != STREAMDB_OK) {
		fprintf(stderr, "%s: status %d\n", what, status);
		exit(1);
	}
}

static size_t scattered(unsigned long long *state) {
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 11;
}

static double anonymous(void) {
	char line[128];
	double kib = 0;
	FILE *f = fopen("/proc/self/status", "r");
	while (f && fgets(line, sizeof line, f)) sscanf(line, "RssAnon: %lf", &kib);
	if (f) fclose(f);
	return kib * 1024;
}

static void insert(StreamDbHandle *db, size_t at, size_t groups) {
	char key[64];
	uint8_t value[100] = {0};
	StreamDbUuid id;
	int n = snprintf(key, sizeof key, "takes/%08zu/%04zu.wav", at, at % groups);
	memcpy(value, &at, sizeof at);
	must(streamdb_insert(db, (uint8_t *)key, n, value, sizeof value, &id), "insert");
}

static void get(StreamDbHandle *db, size_t at, size_t groups) {
	char key[64];
	StreamDbBuffer found;
	int n = snprintf(key, sizeof key, "takes/%08zu/%04zu.wav", at, at % groups);
	must(streamdb_get(db, (uint8_t *)key, n, &found), "get");
	if (found.len != 100 || memcmp(found.data, &at, sizeof at)) {
		fprintf(stderr, "another value came\n");
		exit(1);
	}
	streamdb_free_buffer(&found);
}

int main(int argc, char **argv) {
	if (argc != 3) return 2;
	size_t keys = strtoul(argv[2], NULL, 10), groups = keys / SHARED ? keys / SHARED : 1;
	StreamDbHandle *db;
	must(streamdb_open(argv[1], &db), "open");
	double t = now();
	for (size_t i = 0; i < keys; i++) insert(db, i, groups);
	must(streamdb_flush(db), "flush");
	double batched = keys / (now() - t);
	t = now();
	for (size_t i = 0; i < FLUSHED; i++) {
		insert(db, keys + i, groups);
		must(streamdb_flush(db), "flush");
	}
	double single = FLUSHED / (now() - t);
	streamdb_close(db);

	double before = anonymous();
	t = now();
	must(streamdb_open(argv[1], &db), "open again");
	double open = (now() - t) * 1e3;
	/* Some of its files cannot be read back. Its rates are then those of a store that was never closed. */
	size_t lost = 0;
	for (size_t i = 0; i < keys; i++) {
		char key[64];
		StreamDbBuffer found;
		int n = snprintf(key, sizeof key, "takes/%08zu/%04zu.wav", i, i % groups);
		if (streamdb_get(db, (uint8_t *)key, n, &found) != STREAMDB_OK) lost++;
		else streamdb_free_buffer(&found);
	}
	if (lost) {
		streamdb_close(db);
		before = anonymous();
		must(streamdb_open_memory(&db), "open in memory");
		for (size_t i = 0; i < keys + FLUSHED; i++) insert(db, i, groups);
	}
	unsigned long long state = 1;
	for (size_t i = 0; i < GETS / 4; i++) get(db, scattered(&state) % keys, groups);
	t = now();
	for (size_t i = 0; i < GETS; i++) get(db, scattered(&state) % keys, groups);
	double gets = GETS / (now() - t);
	double memory = (anonymous() - before) / keys;
	state = 7;
	t = now();
	for (size_t i = 0; i < SEARCHES; i++) {
		char suffix[64];
		StreamDbSearchResults hits;
		int n = snprintf(suffix, sizeof suffix, "/%04zu.wav", scattered(&state) % groups);
		must(streamdb_suffix_search(db, (uint8_t *)suffix, n, &hits), "search");
		if (hits.count < SHARED) {
			fprintf(stderr, "%zu hits\n", hits.count);
			return 1;
		}
		streamdb_free_search_results(&hits);
	}
	double search = SEARCHES / (now() - t);
	streamdb_close(db);
	printf("{\"batched\":%f,\"single\":%f,\"get\":%f,\"search\":%f,\"open\":%f,\"lost\":%zu", batched,
		single, gets, search, open, lost);
	/* What closing has freed would be counted as if it were nothing. */
	if (!lost) printf(",\"memory\":%f", memory);
	puts("}");
	return 0;
}
