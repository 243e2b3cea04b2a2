// A synth with a controller thread that works for two milliseconds, ten times a second.
// FAULTY: the controller is a real-time thread above the audio thread.
// Repaired: it is a real-time thread below it: still ahead of everything ordinary.
// cc -O2 [-DFAULTY] -o client client.c -ljack -lm -lpthread
#define _GNU_SOURCE
#include <pthread.h>
#include <jack/jack.h>
#include <jack/thread.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static jack_port_t *out;
static volatile float control;

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
	float *buffer = jack_port_get_buffer(out, frames);
	(void)unused;
	render(buffer, frames);
	buffer[0] += control / 1000;
	return 0;
}

static void *controller(void *unused)
{
	for (;; usleep(100000))
		for (int i = 0; i < 15000; i++)
			control = sinf(control + i);
	return unused;
}

int main(void)
{
	jack_client_t *client = jack_client_open("client", JackNoStartServer, NULL);
	if (!client) {
		fprintf(stderr, "client: no JACK server answers\n");
		return 1;
	}
	pthread_t thread;
	pthread_create(&thread, NULL, controller, NULL);
	pthread_setname_np(thread, "controller");
	out = jack_port_register(client, "out", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
	jack_set_process_callback(client, process, NULL);
	jack_activate(client);
	jack_connect(client, "client:out", "system:playback_1");
#ifdef FAULTY
	struct sched_param priority = { jack_client_real_time_priority(client) + 9 };
#else
	struct sched_param priority = { 10 };
#endif
	if (pthread_setschedparam(thread, SCHED_FIFO, &priority) != 0)
		fprintf(stderr, "client: no real-time priority for the controller\n");
	for (;;)
		pause();
}
