/* A low-pass filter as a node of PipeWire's own API, its cutoff moving. It filters what is linked to its
 * input, and noise of its own as long as nothing is.
 *
 * process() runs in PipeWire's real-time thread, once a period. Nothing in it may wait: no malloc, no
 * lock, no print, no file. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>

#include <pipewire/filter.h>
#include <pipewire/pipewire.h>

static struct pw_main_loop *loop;
static struct pw_filter *filter;
static void *input, *output;

static float noise(void)
{
	static unsigned int seed = 1;

	seed = seed * 1664525 + 1013904223;
	return (float)(int)seed * 0x1p-31f * 0.1f;
}

/* A state-variable filter (Chamberlin, Musical Applications of Microprocessors). */
static void process(void *unused, struct spa_io_position *position)
{
	static float low, band, phase;
	unsigned int frames = position->clock.duration;
	float *in = pw_filter_get_dsp_buffer(input, frames);
	float *out = pw_filter_get_dsp_buffer(output, frames);
	float cutoff = 0.15f + 0.1f * sinf(phase);

	(void)unused;
	phase = fmodf(phase + 0.001f, 2 * (float)M_PI);
	if (!out)
		return;
	for (unsigned int i = 0; i < frames; i++) {
		float high = (in ? in[i] : noise()) - low - 0.5f * band;

		band += cutoff * high;
		low += cutoff * band;
		out[i] = low;
	}
}

static void *port(enum pw_direction direction, const char *name)
{
	return pw_filter_add_port(filter, direction, PW_FILTER_PORT_FLAG_MAP_BUFFERS, 0,
				  pw_properties_new(PW_KEY_FORMAT_DSP, "32 bit float mono audio",
						    PW_KEY_PORT_NAME, name, NULL),
				  NULL, 0);
}

static void stop(void *unused, int signal)
{
	(void)unused;
	(void)signal;
	pw_main_loop_quit(loop);
}

int main(int count, char **arguments)
{
	static const struct pw_filter_events events = { PW_VERSION_FILTER_EVENTS, .process = process };

	pw_init(&count, &arguments);
	loop = pw_main_loop_new(NULL);
	pw_loop_add_signal(pw_main_loop_get_loop(loop), SIGINT, stop, NULL);
	pw_loop_add_signal(pw_main_loop_get_loop(loop), SIGTERM, stop, NULL);
	/* A page that is not in memory when process() needs it costs more than a period. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		perror("my-filter: memory is not locked");
	filter = pw_filter_new_simple(pw_main_loop_get_loop(loop), "my-filter",
				      pw_properties_new(PW_KEY_MEDIA_TYPE, "Audio",
							PW_KEY_MEDIA_CATEGORY, "Filter",
							PW_KEY_MEDIA_ROLE, "DSP",
							PW_KEY_NODE_NAME, "my-filter", NULL),
				      &events, NULL);
	input = port(PW_DIRECTION_INPUT, "in");
	output = port(PW_DIRECTION_OUTPUT, "out");
	if (pw_filter_connect(filter, PW_FILTER_FLAG_RT_PROCESS, NULL, 0)) {
		fprintf(stderr, "my-filter: no PipeWire answers\n");
		return 1;
	}
	pw_main_loop_run(loop);
	pw_filter_destroy(filter);
	pw_main_loop_destroy(loop);
	return 0;
}
