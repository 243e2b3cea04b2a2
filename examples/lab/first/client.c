/* A first program for the lab: 440 Hz on one port. */
#include <jack/jack.h>
#include <math.h>
#include <unistd.h>

static jack_port_t *port;
static double phase, step;
/* JACK calls this once a period, from a real-time thread: nothing in it may wait. */
static int process(jack_nframes_t frames, void *unused)
{
	float *out = jack_port_get_buffer(port, frames);

	(void)unused;
	for (jack_nframes_t i = 0; i < frames; i++) {
		out[i] = 0.1 * sin(phase);
		phase = fmod(phase + step, 2 * M_PI);
	}
#ifdef SLEEPY /* the fault to try: build with -DSLEEPY */
	static unsigned int periods;
	if (++periods % 100 == 0)
		usleep(2000);
#endif
	return 0;
}

int main(void)
{
	jack_client_t *client = jack_client_open("first", JackNoStartServer, NULL);

	if (!client)
		return 1;
	step = 2 * M_PI * 440 / jack_get_sample_rate(client);
	port = jack_port_register(client, "out", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
	jack_set_process_callback(client, process, NULL);
	if (!port || jack_activate(client))
		return 1;
	jack_connect(client, "first:out", "system:playback_1");
	pause();
	return 0;
}
