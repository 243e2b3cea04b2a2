// A sampler that plays a chord every hundred periods, each from other parts of its memory.
// FAULTY (faulty.lab.toml): the user may not lock memory, so that nothing is locked. When memory is
// short the kernel puts the samples away, and the callback waits until they are back.
// Repaired: it is run with the machine's limits, and all its memory is locked.
// cc -O2 -o client client.c -ljack -lm -lpthread
#include <sys/mman.h>
#include <jack/jack.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static jack_port_t *out;
#define PAGE 4096
#define PAGES 16384
#define VOICES 64
static float *samples;

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
	// Every voice plays from another page: after 17 seconds all samples were heard.
	for (int voice = 0; period % 100 == 0 && voice < VOICES; voice++)
		buffer[0] += samples[(size_t)(place++ % PAGES) * PAGE / sizeof(float)] / 1000;
	period++;
	return 0;
}

int main(void)
{
	jack_client_t *client = jack_client_open("client", JackNoStartServer, NULL);
	if (!client) {
		fprintf(stderr, "client: no JACK server answers\n");
		return 1;
	}
	samples = malloc((size_t)PAGES * PAGE);
	for (size_t i = 0; i < (size_t)PAGES * PAGE / sizeof *samples; i++)
		samples[i] = (float)i;
	if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
		perror("client: mlockall");
	out = jack_port_register(client, "out", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
	jack_set_process_callback(client, process, NULL);
	jack_activate(client);
	jack_connect(client, "client:out", "system:playback_1");
	for (;;)
		pause();
}
