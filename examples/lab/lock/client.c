// A synth whose panel shows its level.
// FAULTY: audio and panel share an ordinary mutex. When anything else takes the processor from the
// panel while it holds the mutex, the audio thread waits for all of them (priority inversion).
// Repaired: the mutex inherits priority: whoever holds it runs with the audio thread's priority.
// cc -O2 [-DFAULTY] -o client client.c -ljack -lm -lpthread
#define _GNU_SOURCE
#include <pthread.h>
#include <jack/jack.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static jack_port_t *out;
static pthread_mutex_t mutex;
static float level;
float picture[2000];

// Twenty partials: about a tenth of a 32-frame period at 500 MIPS.
static void render(float *buffer, jack_nframes_t frames)
{
	static float phase;
	for (jack_nframes_t i = 0; i < frames; i++, phase += 0.01f) {
		buffer[i] = 0;
		for (int partial = 1; partial <= 20; partial++)
			buffer[i] += 0.02f * sinf(phase * partial);
	}
	phase = fmodf(phase, 2 * (float)M_PI);
}

static int process(jack_nframes_t frames, void *unused)
{
	float *buffer = jack_port_get_buffer(out, frames);
	(void)unused;
	render(buffer, frames);
	pthread_mutex_lock(&mutex);
	level = fabsf(buffer[0]);
	pthread_mutex_unlock(&mutex);
	return 0;
}

// Draws for a fifth of a millisecond, and keeps the mutex meanwhile.
static void *panel(void *unused)
{
	for (;; usleep(1000)) {
		pthread_mutex_lock(&mutex);
		for (int i = 0; i < 2000; i++)
			picture[i] = level * sinf(i);
		pthread_mutex_unlock(&mutex);
	}
	return unused;
}

int main(void)
{
	jack_client_t *client = jack_client_open("client", JackNoStartServer, NULL);
	if (!client) {
		fprintf(stderr, "client: no JACK server answers\n");
		return 1;
	}
	pthread_mutexattr_t kind;
	pthread_mutexattr_init(&kind);
#ifndef FAULTY
	pthread_mutexattr_setprotocol(&kind, PTHREAD_PRIO_INHERIT);
#endif
	pthread_mutex_init(&mutex, &kind);
	pthread_t thread;
	pthread_create(&thread, NULL, panel, NULL);
	pthread_setname_np(thread, "panel");
	out = jack_port_register(client, "out", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
	jack_set_process_callback(client, process, NULL);
	jack_activate(client);
	jack_connect(client, "client:out", "system:playback_1");
	for (;;)
		pause();
}
