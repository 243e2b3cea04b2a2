// A looper that starts a new layer every eight hundred periods, and keeps them all.
// FAULTY: it allocates the layer in the callback. The kernel gives memory page by page, when it is
// first touched, and each page is an exception that costs microseconds.
// Repaired: all layers are allocated, touched and locked before the callback runs.
// cc -O2 [-DFAULTY] -o client client.c -ljack -lm -lpthread
#include <string.h>
#include <sys/mman.h>
#include <jack/jack.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static jack_port_t *out;
#define LAYER (4 << 20)
#define LAYERS 16
static char *layer;
#ifndef FAULTY
static char *pool[LAYERS];
#endif

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
	static unsigned period, place;
	float *buffer = jack_port_get_buffer(out, frames);
	(void)unused;
	render(buffer, frames);
	if (period % 800 == 0) {
#ifdef FAULTY
		layer = malloc(LAYER);
		for (int page = 0; page < LAYER; page += 4096)
			layer[page] = 0; // so that the recording finds it there
#else
		layer = pool[period / 800 % LAYERS];
#endif
		place = 0;
	}
	period++;
	memcpy(layer + place, buffer, frames * sizeof *buffer);
	place += frames * sizeof *buffer;
	return 0;
}

int main(void)
{
	jack_client_t *client = jack_client_open("client", JackNoStartServer, NULL);
	if (!client) {
		fprintf(stderr, "client: no JACK server answers\n");
		return 1;
	}
#ifndef FAULTY
	if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
		perror("client: mlockall");
	for (int i = 0; i < LAYERS; i++)
		memset(pool[i] = malloc(LAYER), 0, LAYER);
#endif
	out = jack_port_register(client, "out", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
	jack_set_process_callback(client, process, NULL);
	jack_activate(client);
	jack_connect(client, "client:out", "system:playback_1");
	for (;;)
		pause();
}
