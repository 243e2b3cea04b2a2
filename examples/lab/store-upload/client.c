// A synth that plays while StreamDB takes uploads on the same processor.
// The store's server is an ordinary process behind everybody else (serve.sh), and this is in time.
// cc -O2 -o client client.c -ljack -lm
#include <jack/jack.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

static jack_port_t *out;

// Twenty partials: about a tenth of a 32-frame period at 500 MIPS.
static int process(jack_nframes_t frames, void *unused)
{
	static float phase;
	float *buffer = jack_port_get_buffer(out, frames);
	(void)unused;
	for (jack_nframes_t i = 0; i < frames; i++, phase += 0.01f) {
		buffer[i] = 0;
		for (int partial = 1; partial <= 20; partial++)
			buffer[i] += 0.02f * sinf(phase * partial);
	}
	phase = fmodf(phase, 2 * (float)M_PI);
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
