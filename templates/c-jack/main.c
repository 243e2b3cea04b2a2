/* A small synth for JACK: one note with eight partials. Type a frequency in Hz and press Enter.
 *
 * process() runs in JACK's real-time thread, once a period. Nothing in it may wait: no malloc, no lock,
 * no print, no file. What it and main() tell each other goes through atomics. */
#include <jack/jack.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PARTIALS = 8 };

static jack_port_t *left, *right;
static float rate;
static _Atomic float wanted = 220; /* Hz */
static atomic_uint xruns;
static atomic_int server_gone;
static volatile sig_atomic_t stopped;

static int process(jack_nframes_t frames, void *unused)
{
	static float frequency = 220, phase;
	float *out = jack_port_get_buffer(left, frames);
	float target = atomic_load_explicit(&wanted, memory_order_relaxed);

	(void)unused;
	for (jack_nframes_t i = 0; i < frames; i++) {
		/* Glides in some 20 ms, so that a new note does not click. */
		frequency += (target - frequency) * 0.001f;
		phase += frequency / rate;
		phase -= floorf(phase);
		out[i] = 0;
		for (int partial = 1; partial <= PARTIALS; partial++)
			out[i] += 0.1f / partial * sinf(2 * (float)M_PI * phase * partial);
	}
	memcpy(jack_port_get_buffer(right, frames), out, frames * sizeof *out);
	return 0;
}

static int count_xrun(void *unused)
{
	(void)unused;
	atomic_fetch_add(&xruns, 1);
	return 0;
}

static void lose_server(void *unused)
{
	(void)unused;
	atomic_store(&server_gone, 1);
}

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

/* To whatever plays: the first two inputs of a sound card, or of what stands in for one. */
static void connect_outputs(jack_client_t *client)
{
	const char **inputs = jack_get_ports(client, NULL, JACK_DEFAULT_AUDIO_TYPE,
					     JackPortIsPhysical | JackPortIsInput);

	if (!inputs)
		inputs = jack_get_ports(client, ":playback_", JACK_DEFAULT_AUDIO_TYPE, JackPortIsInput);
	if (!inputs) {
		fprintf(stderr, "my-synth: nothing to play through; connect it with jack_connect\n");
		return;
	}
	jack_connect(client, jack_port_name(left), inputs[0]);
	jack_connect(client, jack_port_name(right), inputs[inputs[1] ? 1 : 0]);
	jack_free(inputs);
}

int main(void)
{
	jack_client_t *client = jack_client_open("my-synth", JackNoStartServer, NULL);

	if (!client) {
		fprintf(stderr, "my-synth: no JACK server answers\n");
		return 1;
	}
	/* A page that is not in memory when process() needs it costs more than a period. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		perror("my-synth: memory is not locked");
	rate = jack_get_sample_rate(client);
	left = jack_port_register(client, "left", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
	right = jack_port_register(client, "right", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
	jack_set_process_callback(client, process, NULL);
	jack_set_xrun_callback(client, count_xrun, NULL);
	jack_on_shutdown(client, lose_server, NULL);
	if (!left || !right || jack_activate(client)) {
		fprintf(stderr, "my-synth: the JACK server refuses it\n");
		return 1;
	}
	connect_outputs(client);
	sigaction(SIGINT, &(struct sigaction){ .sa_handler = stop }, NULL);
	sigaction(SIGTERM, &(struct sigaction){ .sa_handler = stop }, NULL);
	printf("my-synth plays %.0f Hz\n", (double)wanted);
	fflush(stdout);

	struct pollfd input = { .fd = 0, .events = POLLIN };
	unsigned told = 0;
	while (!stopped && !atomic_load(&server_gone)) {
		char line[64];
		unsigned count = atomic_load(&xruns);

		if (count != told)
			fprintf(stderr, "my-synth: %u xruns\n", count);
		told = count;
		if (poll(&input, 1, 200) <= 0)
			continue;
		if (!fgets(line, sizeof line, stdin)) {
			input.fd = -1; /* nobody types: it goes on playing */
			continue;
		}
		float frequency = strtof(line, NULL);
		if (frequency >= 20 && frequency <= 5000) {
			atomic_store_explicit(&wanted, frequency, memory_order_relaxed);
			printf("%.0f Hz\n", (double)frequency);
		} else {
			printf("a frequency from 20 to 5000, please\n");
		}
		fflush(stdout);
	}
	if (server_gone)
		fprintf(stderr, "my-synth: the JACK server has gone\n");
	jack_client_close(client);
	return server_gone ? 1 : 0;
}
