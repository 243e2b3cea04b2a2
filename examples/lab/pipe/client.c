// A synth that prints its level for another program to read.
// FAULTY: the callback prints. When the reader is slow the pipe is full, and the callback waits.
// Repaired: the callback leaves the level behind; the main thread prints it, and may wait.
// cc -O2 [-DFAULTY] -o client client.c -ljack -lm -lpthread
#define _GNU_SOURCE
#include <fcntl.h>
#include <jack/jack.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static jack_port_t *out;
static volatile float level;

static void print_level(void)
{
	printf("level %.6f, peak %.6f, of twenty partials\n", level, fabsf(level));
	fflush(stdout);
}

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
	level = buffer[0];
#ifdef FAULTY
	static unsigned period;
	if (period++ % 5 == 0)
		print_level();
#endif
	return 0;
}

int main(void)
{
	jack_client_t *client = jack_client_open("client", JackNoStartServer, NULL);
	if (!client) {
		fprintf(stderr, "client: no JACK server answers\n");
		return 1;
	}
	// The smallest pipe there is: it is full after 90 lines.
	fcntl(STDOUT_FILENO, F_SETPIPE_SZ, 4096);
	out = jack_port_register(client, "out", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
	jack_set_process_callback(client, process, NULL);
	jack_activate(client);
	jack_connect(client, "client:out", "system:playback_1");
#ifdef FAULTY
	pause();
#endif
	for (;; usleep(3333))
		print_level();
}
