/* Two nodes of PipeWire's own API: a source of noise, and a resonant low-pass behind it, linked to each
 * other and to the sink by `play.sh`. Nothing in the callbacks waits, unless FAULTY.
 * Build: cc -O2 -o filter filter.c $(pkg-config --cflags --libs libpipewire-0.3) -lm */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pipewire/filter.h>
#include <pipewire/pipewire.h>

static struct pw_main_loop *loop;
static struct pw_filter *source, *lowpass;
static void *source_out, *lowpass_in, *lowpass_out;

static void make_noise(void *unused, struct spa_io_position *position)
{
	static unsigned int seed = 1;
	unsigned int frames = position->clock.duration;
	float *out = pw_filter_get_dsp_buffer(source_out, frames);

	(void)unused;
	if (!out)
		return;
	for (unsigned int i = 0; i < frames; i++) {
		seed = seed * 1664525 + 1013904223;
		out[i] = (float)(int)seed * 0x1p-31f * 0.1f;
	}
}

/* A state-variable filter (Chamberlin, Musical Applications of Microprocessors), its cutoff moving. */
static void filter(void *unused, struct spa_io_position *position)
{
	static float low, band, phase;
	static unsigned int periods;
	unsigned int frames = position->clock.duration;
	float *in = pw_filter_get_dsp_buffer(lowpass_in, frames);
	float *out = pw_filter_get_dsp_buffer(lowpass_out, frames);
	float cutoff = 0.15f + 0.1f * sinf(phase);

	(void)unused;
	phase = fmodf(phase + 0.001f, 6.2831853f);
#ifdef FAULTY
	/* A disk, a lock, a logger: one period of a hundred waits two milliseconds. */
	if (++periods % 100 == 0)
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
#else
	periods++;
#endif
	if (!out)
		return;
	for (unsigned int i = 0; i < frames; i++) {
		float high = (in ? in[i] : 0) - low - 0.5f * band;

		band += cutoff * high;
		low += cutoff * band;
		out[i] = low;
	}
}

static const struct pw_filter_events source_events = { PW_VERSION_FILTER_EVENTS, .process = make_noise };
static const struct pw_filter_events lowpass_events = { PW_VERSION_FILTER_EVENTS, .process = filter };

static struct pw_filter *node(const char *name, const struct pw_filter_events *events)
{
	return pw_filter_new_simple(pw_main_loop_get_loop(loop), name,
				    pw_properties_new(PW_KEY_MEDIA_TYPE, "Audio", PW_KEY_MEDIA_CATEGORY, "Filter",
						      PW_KEY_MEDIA_ROLE, "DSP", PW_KEY_NODE_NAME, name, NULL),
				    events, NULL);
}

static void *port(struct pw_filter *filter, enum pw_direction direction, const char *name)
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
	pw_init(&count, &arguments);
	loop = pw_main_loop_new(NULL);
	pw_loop_add_signal(pw_main_loop_get_loop(loop), SIGTERM, stop, NULL);
	source = node("noise", &source_events);
	lowpass = node("lowpass", &lowpass_events);
	source_out = port(source, PW_DIRECTION_OUTPUT, "out");
	lowpass_in = port(lowpass, PW_DIRECTION_INPUT, "in");
	lowpass_out = port(lowpass, PW_DIRECTION_OUTPUT, "out");
	if (pw_filter_connect(source, PW_FILTER_FLAG_RT_PROCESS, NULL, 0) ||
	    pw_filter_connect(lowpass, PW_FILTER_FLAG_RT_PROCESS, NULL, 0))
		return 1;
	pw_main_loop_run(loop);
	pw_filter_destroy(lowpass);
	pw_filter_destroy(source);
	pw_main_loop_destroy(loop);
	return 0;
}
