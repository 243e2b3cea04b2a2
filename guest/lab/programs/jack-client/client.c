/* The smallest honest JACK client: a sine on one port, and nothing in the callback that could wait.
 * Build: cc -O2 -o client client.c -ljack -lm -lpthread */
#include <jack/jack.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static jack_port_t *port;
static float phase, step;

static int process(jack_nframes_t frames, void *unused)
{
	float *out = jack_port_get_buffer(port, frames);

	(void)unused;
	for (jack_nframes_t i = 0; i < frames; i++) {
		out[i] = 0.1f * sinf(phase);
		phase += step;
		if (phase > 6.2831853f)
			phase -= 6.2831853f;
	}
	return 0;
}

static void stop(int unused) { (void)unused; }

int main(void)
{
	jack_client_t *client = jack_client_open("sine", JackNoStartServer, NULL);

	if (!client) {
		fprintf(stderr, "no JACK server\n");
		return 1;
	}
	step = 6.2831853f * 440 / jack_get_sample_rate(client);
	jack_set_process_callback(client, process, NULL);
	port = jack_port_register(client, "out", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
	if (!port || jack_activate(client)) {
		fprintf(stderr, "the server takes no client\n");
		return 1;
	}
	jack_connect(client, "sine:out", "system:playback_1");
	signal(SIGTERM, stop);
	pause();
	jack_client_close(client);
	return 0;
}
