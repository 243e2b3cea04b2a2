// A synth that makes a new wave table every thousand periods.
// FAULTY: it makes the whole table in one period, which has no time for that.
// Repaired: it makes a few entries in every period.
// cc -O2 [-DFAULTY] -o client client.c -ljack -lm -lpthread
#include <jack/jack.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static jack_port_t *out;
#define TABLE 32000
static float table[TABLE];

static void compute(int from, int to)
{
	for (int i = from; i < to; i++)
		table[i] = sinf(i) + sinf(i * 2.0f) / 2;
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
	static unsigned period;
	float *buffer = jack_port_get_buffer(out, frames);
	(void)unused;
	render(buffer, frames);
	unsigned step = period++ % 1000;
#ifdef FAULTY
	if (step == 0)
		compute(0, TABLE);
#else
	compute(step * (TABLE / 1000), (step + 1) * (TABLE / 1000));
#endif
	buffer[0] += table[step] / 1000;
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
