/* Plays the patch on a scsynth of its own: so many voices and one reverb, asked for by OSC, as any
 * client of SuperCollider does. Ends with an error unless scsynth says that they all play.
 * Build: cc -O2 -o play play.c */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PORT = 57110, FIRST = 1000 };

static char message[512];
static size_t length;
static int server;

static void text(const char *string)
{
	size_t bytes = strlen(string) + 1;

	memset(message + length, 0, 512 - length);
	memcpy(message + length, string, bytes);
	length = (length + bytes + 3) & ~(size_t)3;
}

static void word(const void *bits)
{
	unsigned int big;

	memcpy(&big, bits, 4);
	big = htonl(big);
	memcpy(message + length, &big, 4);
	length += 4;
}

static void integer(int value) { word(&value); }
static void real(float value) { word(&value); }

/* Asks until there is an answer, at most so many times; each waits 0.1 s for it. */
static int ask(const char *question, const char *tags, int tries, unsigned char *answer, size_t room)
{
	while (tries--) {
		ssize_t got;

		length = 0;
		text(question);
		text(tags);
		if (tags[1])
			integer(1);
		send(server, message, length, 0);
		got = recv(server, answer, room, 0);
		/* Others, /done and /fail, may come between. */
		while (got > 0 && !strstr((char *)answer, "status.reply") && !strstr((char *)answer, "synced"))
			got = recv(server, answer, room, 0);
		if (got > 0)
			return 1;
		/* As long as nobody listens, the answer is a refusal, at once. */
		usleep(20000);
	}
	return 0;
}

int main(int count, char **arguments)
{
	int voices = count > 1 ? atoi(arguments[1]) : 40;
	const char *frames = getenv("ARCHIBALD_QUANTUM");
	const char *rate = getenv("ARCHIBALD_RATE");
	/* A control block longer than the period renders nothing at all, and says nothing of it. */
	int block = frames && atoi(frames) < 64 ? atoi(frames) : 64;
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	struct timeval tenth = { .tv_usec = 100000 };
	unsigned char answer[1024];
	char size[16], folder[480];
	unsigned int playing;
	pid_t scsynth;
	int status;

	snprintf(size, sizeof size, "%d", block);
	scsynth = fork();
	if (!scsynth) {
		setenv("SC_JACK_DEFAULT_OUTPUTS", "system", 0);
		execlp("scsynth", "scsynth", "-u", "57110", "-B", "127.0.0.1", "-i", "0", "-o", "2", "-z", size,
		       "-S", rate ? rate : "48000", "-m", "16384", "-R", "0", "-D", "0", "-n", "4096", NULL);
		perror("scsynth");
		_exit(127);
	}
	server = socket(AF_INET, SOCK_DGRAM, 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &tenth, sizeof tenth);
	if (server < 0 || connect(server, (struct sockaddr *)&address, sizeof address) ||
	    !ask("/status", ",", 200, answer, sizeof answer)) {
		fprintf(stderr, "scsynth does not answer\n");
		kill(scsynth, SIGTERM);
		return 1;
	}
	if (!getcwd(folder, sizeof folder))
		return 1;
	length = 0;
	text("/d_loadDir");
	text(",s");
	text(folder);
	send(server, message, length, 0);
	ask("/sync", ",i", 50, answer, sizeof answer);
	for (int voice = 0; voice <= voices; voice++) {
		int last = voice == voices;

		length = 0;
		text("/s_new");
		text(last ? ",siii" : ",siiisfsf");
		text(last ? "room" : "voice");
		integer(FIRST + voice);
		/* Voices at the head of the root group, the reverb at its tail. */
		integer(last);
		integer(0);
		if (!last) {
			text("freq");
			real(55.0f * (1 + voice % 24));
			text("pan");
			real((float)(voice % 9) / 4 - 1);
		}
		send(server, message, length, 0);
		/* The socket's buffer holds some hundred. */
		if (voice % 64 == 63)
			ask("/sync", ",i", 50, answer, sizeof answer);
	}
	ask("/sync", ",i", 50, answer, sizeof answer);
	/* Unused, UGens, synths: three words after the tags (Server Command Reference, /status). */
	do {
		memset(answer, 0, sizeof answer);
		status = ask("/status", ",", 50, answer, sizeof answer);
	} while (status && !strstr((char *)answer, "status.reply"));
	memcpy(&playing, answer + 16 + 12 + 8, 4);
	if (!status || ntohl(playing) != (unsigned int)voices + 1) {
		fprintf(stderr, "%u of %d synths play\n", ntohl(playing), voices + 1);
		kill(scsynth, SIGTERM);
		return 1;
	}
	printf("%d voices and a reverb play, in blocks of %d\n", voices, block);
	fflush(stdout);
	waitpid(scsynth, &status, 0);
	return 1;
}
