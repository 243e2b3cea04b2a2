// A recorder.
// FAULTY: the callback writes to the disk and waits until it is safe there.
// Repaired: the callback puts the sound into a ring; a thread of its own writes it.
// cc -O2 [-DFAULTY] -o client client.c -ljack -lm -lpthread
#include <fcntl.h>
#include <jack/ringbuffer.h>
#include <jack/jack.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static jack_port_t *out;
static jack_ringbuffer_t *ring;
static int file;

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

static void store(const void *sound, size_t bytes)
{
	if (write(file, sound, bytes) < 0 || fsync(file) < 0)
		perror("client: cannot store");
}

static int process(jack_nframes_t frames, void *unused)
{
	float *buffer = jack_port_get_buffer(out, frames);
	(void)unused;
	render(buffer, frames);
#ifdef FAULTY
	static unsigned period;
	if (period++ % 100 == 0)
		store(buffer, frames * sizeof *buffer);
#else
	jack_ringbuffer_write(ring, (char *)buffer, frames * sizeof *buffer);
#endif
	return 0;
}

int main(int count, char **words)
{
	jack_client_t *client = jack_client_open("client", JackNoStartServer, NULL);
	if (!client) {
		fprintf(stderr, "client: no JACK server answers\n");
		return 1;
	}
	file = open(count > 1 ? words[1] : "take.raw", O_WRONLY | O_CREAT, 0644);
	if (file < 0) {
		perror("client: cannot open the take");
		return 1;
	}
	ring = jack_ringbuffer_create(1 << 20);
	jack_ringbuffer_mlock(ring);
	out = jack_port_register(client, "out", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
	jack_set_process_callback(client, process, NULL);
	jack_activate(client);
	jack_connect(client, "client:out", "system:playback_1");
	for (static char sound[1 << 16];; usleep(50000)) {
		size_t bytes = jack_ringbuffer_read(ring, sound, sizeof sound);
		if (bytes > 0)
			store(sound, bytes);
	}
}
