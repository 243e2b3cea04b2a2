// A synth that paces a slow device: one message every five hundred periods, then a pause.
// FAULTY: it makes the pause by sleeping in the callback.
// Repaired: it counts periods.
// cc -O2 [-DFAULTY] -o client client.c -ljack -lm -lpthread
#include <jack/jack.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static jack_port_t *out;

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
	static unsigned period;
	float *buffer = jack_port_get_buffer(out, frames);
	(void)unused;
	render(buffer, frames);
	if (period++ % 500 == 0) {
#ifdef FAULTY
		usleep(2000);
#else
		period += 3; // the pause is over three periods later
#endif
	}
	return 0;
}

int main(void)
{
	jack_client_t *client = jack_client_open("client", JackNoStartServer, NULL);
	if (!client) {
		fprintf(stderr, "client: no JACK server answers\n");
		return 1;
	}
	out = jack_port_register(client, "out", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
	jack_set_process_callback(client, process, NULL);
	jack_activate(client);
	jack_connect(client, "client:out", "system:playback_1");
	for (;;)
		pause();
}
