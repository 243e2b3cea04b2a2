/* A tone of 440 Hz on one port, and an ear on another: says so when half a second of it has come back. */
#include <jack/jack.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static jack_port_t *out_port, *in_port;
static double phase, step;
static jack_nframes_t rate;
static atomic_bool came_back;

/* The tone crosses zero upwards every 109 frames or so, and reaches its level between: a frame that was lost or
 * made up breaks one or the other. */
static void hear(const float *in, jack_nframes_t frames)
{
	static float last, peak;
	static jack_nframes_t since, clean;

	for (jack_nframes_t i = 0; i < frames; i++, since++) {
		if (last < 0 && in[i] >= 0) {
			double expected = rate / 440.0;
			int is_tone = fabs(since - expected) < 2 && fabsf(peak - 0.1f) < 0.01f;

			clean = is_tone ? clean + since : 0;
			since = 0;
			peak = 0;
		}
		peak = fmaxf(peak, in[i]);
		last = in[i];
	}
	if (clean > rate / 2)
		atomic_store(&came_back, 1);
}

static int process(jack_nframes_t frames, void *unused)
{
	float *out = jack_port_get_buffer(out_port, frames);

	(void)unused;
	hear(jack_port_get_buffer(in_port, frames), frames);
	for (jack_nframes_t i = 0; i < frames; i++) {
		out[i] = (float)(0.1 * sin(phase));
		phase = fmod(phase + step, 2 * M_PI);
	}
	return 0;
}

/* The nodes of ROC come a while after the client. */
static int linked(jack_client_t *client, const char *from, const char *to)
{
	for (int tries = 0; jack_connect(client, from, to); tries++) {
		if (tries == 100) {
			fprintf(stderr, "no link from %s to %s\n", from, to);
			return 0;
		}
		usleep(50000);
	}
	return 1;
}

int main(void)
{
	jack_client_t *client = jack_client_open("tone", JackNoStartServer, NULL);

	if (!client)
		return 1;
	rate = jack_get_sample_rate(client);
	step = 2 * M_PI * 440 / rate;
	out_port = jack_port_register(client, "out", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
	in_port = jack_port_register(client, "in", JACK_DEFAULT_AUDIO_TYPE, JackPortIsInput, 0);
	jack_set_process_callback(client, process, NULL);
	if (!out_port || !in_port || jack_activate(client))
		return 1;
	if (!linked(client, "tone:out", "ROC Sink:send_FL") || !linked(client, "tone:out", "ROC Sink:send_FR") ||
	    !linked(client, "ROC Source:receive_FL", "tone:in"))
		return 1;
	while (!atomic_load(&came_back))
		usleep(50000);
	puts("the tone came back");
	fflush(stdout);
	pause();
	return 0;
}
