// A synth that computes its partials one by one.
// FAULTY: two thousand of them, in every period: more than the processor can do in the time.
// Repaired: twenty.
// cc -O2 [-DFAULTY] -o client client.c -ljack -lm
#include <jack/jack.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef FAULTY
enum { PARTIALS = 2000 };
#else
enum { PARTIALS = 20 };
#endif

static jack_port_t *out;

static int process(jack_nframes_t frames, void *unused)
{
	static float phase;
	float *buffer = jack_port_get_buffer(out, frames);
	(void)unused;
	for (jack_nframes_t i = 0; i < frames; i++, phase += 0.01f) {
		buffer[i] = 0;
		for (int partial = 1; partial <= PARTIALS; partial++)
			buffer[i] += 0.4f / PARTIALS * sinf(phase * partial);
	}
	phase = fmodf(phase, 2 * (float)M_PI);
	return 0;
}

int main(void)
{
	jack_client_t *client = jack_client_open("client", JackNoStartServer, NULL);
	if (client == NULL) {
		fputs("no JACK server\n", stderr);
		return EXIT_FAILURE;
	}
	jack_set_process_callback(client, process, NULL);
	out = jack_port_register(client, "out", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
	jack_activate(client);
	pause();
}
