// A client of JACK with one planted fault, for `measure audio --explain`: ./faults KIND, where KIND is
// clean, rival, pages, lock or work. A fault is by the clock as long as three and a half periods, whatever
// the speed of the processor; four periods without one come between them, so that one of them at least is in
// what the recorder keeps of an xrun that has another cause.
// cc -O2 -o faults faults.c -ljack -lm -lpthread
#define _GNU_SOURCE
#include <jack/jack.h>
#include <jack/thread.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGES 16

static jack_port_t *out;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *kind;
static long long fault_ns, pause_ns;
static volatile float computed;

static long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

// The clock may be a system call, which is asked so seldom that the time is the program's own.
static void compute(void)
{
	for (long long end = now() + fault_ns; now() < end;)
		for (int i = 0; i < 5000; i++)
			computed = sinf(computed + i);
}

// Pages that were never touched, from mappings that are small enough to have no huge ones.
static void touch(void)
{
	for (long long end = now() + fault_ns; now() < end;) {
		size_t length = PAGES * 4096;
		char *fresh = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (size_t at = 0; at < length; at += 4096)
			fresh[at] = 1;
		munmap(fresh, length);
	}
}

static int is_due(void)
{
	static long long next;
	long long moment = now();
	if (moment < next)
		return 0;
	next = moment + fault_ns + pause_ns;
	return 1;
}

static int process(jack_nframes_t frames, void *unused)
{
	(void)unused;
	memset(jack_port_get_buffer(out, frames), 0, frames * sizeof(float));
	if (!strcmp(kind, "lock")) {
		pthread_mutex_lock(&mutex);
		pthread_mutex_unlock(&mutex);
	}
	if (!strcmp(kind, "pages") && is_due())
		touch();
	if (!strcmp(kind, "work") && is_due())
		compute();
	return 0;
}

// Keeps the mutex while it works.
static void *panel(void *unused)
{
	for (;; usleep(pause_ns / 1000)) {
		pthread_mutex_lock(&mutex);
		compute();
		pthread_mutex_unlock(&mutex);
	}
	return unused;
}

static void *controller(void *unused)
{
	for (;; usleep(pause_ns / 1000))
		compute();
	return unused;
}

int main(int count, char **words)
{
	jack_client_t *client = jack_client_open("faults", JackNoStartServer, NULL);
	if (!client || count < 2) {
		fprintf(stderr, "faults: no JACK server answers, or no fault was named\n");
		return 1;
	}
	kind = words[1];
	pause_ns = 4000000000LL * jack_get_buffer_size(client) / jack_get_sample_rate(client);
	fault_ns = pause_ns * 35 / 40;
	out = jack_port_register(client, "out", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
	jack_set_process_callback(client, process, NULL);
	jack_activate(client);
	jack_connect(client, "faults:out", "system:playback_1");
	pthread_t thread;
	if (!strcmp(kind, "lock")) {
		pthread_create(&thread, NULL, panel, NULL);
		pthread_setname_np(thread, "panel");
	}
	if (!strcmp(kind, "rival")) {
		struct sched_param priority = { jack_client_real_time_priority(client) + 9 };
		pthread_create(&thread, NULL, controller, NULL);
		pthread_setname_np(thread, "controller");
		if (pthread_setschedparam(thread, SCHED_FIFO, &priority) != 0)
			fprintf(stderr, "faults: no real-time priority for the controller\n");
	}
	for (;;)
		pause();
}
