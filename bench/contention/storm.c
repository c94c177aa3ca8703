/*
 * storm.c - containers that start at once, in the ways of bench/floor.c, each timed by itself.
 *
 *   cc -O2 -pthread -o storm storm.c
 *   ./storm VARIANT LAYERS CONCURRENCY CONTAINERS SECONDS BEGUN
 *
 * floor.c prints medians; this includes it as it is, so that the calls are the very same, and
 * prints every latency. CONCURRENCY threads compose and unmount in turns until CONTAINERS were
 * started or SECONDS are over. The file BEGUN is made when the clock starts: a neighbour waits for
 * it. As in floor.c, mount namespace and tmpfs are its own.
 *
 * VARIANT is a letter of floor.c, or 0 for threads that only compute, a millisecond each time: what
 * sharing the CPUs does to others, without a mount.
 *
 * Prints JSON: seconds until the last unmount, and composes, the microseconds each container took
 * to be mounted.
 */
#define main floor_main
#include "../floor.c"
#undef main
#include <stdarg.h>
#include <sys/prctl.h>

struct thrower {
  struct th th;
  pthread_t thread;
  double *composes;
  int count, room;
  double end;
  double cells[NP + 2];
};
static int started, containers;
static double seconds, start;
static const char *begun;
static pthread_barrier_t ready;

static void compute(struct th *t) {
  double from = now();
  while ((t->tot_c[0] = now() - from) < 1000)
    ;
}

static void storm_one(struct thrower *w, int layers_fd, char *options) {
  if (variant == '0')
    compute(&w->th);
  else
    one(&w->th, 0, layers_fd, options);
  if (w->count == w->room) {
    w->room = w->room * 2 + 64;
    w->composes = realloc(w->composes, w->room * sizeof(double));
  }
  w->composes[w->count++] = w->th.tot_c[0];
}

/* a cached tree, fds of its layers, a grave: what run() of floor.c prepares and closes */
static void *throw(void *argument) {
  struct thrower *w = argument;
  struct th *t = &w->th;
  char b[300], *options = malloc(32768);
  int is_cached = strchr("km", variant) != 0;
  CK(unshare(CLONE_FS));
  snprintf(b, sizeof b, "%s/layers", base);
  int layers_fd = CK(open(b, O_PATH | O_DIRECTORY | O_CLOEXEC));
  t->grave = -1;
  if (is_cached) t->cached = idmapped(layers_fd, "");
  if (variant == 'm')
    for (int n = 0; n < L; n++) {
      snprintf(b, sizeof b, "%d/fs", n);
      t->keep[n] = CK(openat(t->cached, b, O_PATH | O_DIRECTORY | O_CLOEXEC));
    }
  storm_one(w, layers_fd, options);
  w->count = 0; /* that was to warm up */
  pthread_barrier_wait(&ready);
  pthread_barrier_wait(&ready);
  while (now() < start + seconds * 1e6 &&
         __atomic_fetch_add(&started, 1, __ATOMIC_RELAXED) < containers)
    storm_one(w, layers_fd, options);
  if (t->grave >= 0) close(t->grave);
  w->end = now();
  close(layers_fd);
  free(options);
  if (variant == 'm')
    for (int n = 0; n < L; n++) close(t->keep[n]);
  if (is_cached) close(t->cached);
  return 0;
}

static void make(const char *format, ...) {
  char path[600];
  int length = snprintf(path, sizeof path, "%s/", base);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(path + length, sizeof path - length, format, arguments);
  va_end(arguments);
  if (mkdir(path, 0755)) die("mkdir %s", path);
}

static void prepare(int concurrency) {
  static const char *const parts[] = {"", "up", "wk", "t", "tmp", "tmp/all"};
  char b[600];
  CK(unshare(CLONE_NEWNS));
  CK(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0));
  CK(getcwd(base, 200));
  strcat(base, "/storm.d");
  if (mkdir(base, 0755) && errno != EEXIST) die("mkdir %s", base);
  CK(mount("storm", base, "tmpfs", 0, "nr_inodes=0"));
  make("layers");
  make("c");
  for (int n = 0; n < L; n++) {
    make("layers/%d", n);
    make("layers/%d/fs", n);
    snprintf(b, sizeof b, "%s/layers/%d/fs/f%d", base, n, n);
    close(CK(open(b, O_CREAT | O_WRONLY, 0644)));
  }
  for (int i = 0; i < concurrency; i++) {
    for (int p = 0; p < 6; p++) make("c/%d/%s", i, parts[p]);
    for (int p = 1; p < 3; p++) {
      snprintf(b, sizeof b, "%s/c/%d/%s", base, i, parts[p]);
      CK(chown(b, 100000, 100000));
    }
    for (int n = 0; n < L; n++) make("c/%d/tmp/%d", i, n);
  }
  ufd = mkuserns();
  struct mattr a = {.set = IDMAP, .ufd = ufd};
  int tree = open_tree_attr(AT_FDCWD, base, 1 | O_CLOEXEC, &a);
  have_ota = tree >= 0;
  if (have_ota) close(tree);
}

int main(int argc, char **argv) {
  if (argc != 7) {
    fprintf(stderr, "usage: storm VARIANT LAYERS CONCURRENCY CONTAINERS SECONDS BEGUN\n");
    return 2;
  }
  variant = argv[1][0];
  L = atoi(argv[2]);
  int concurrency = atoi(argv[3]);
  containers = atoi(argv[4]);
  seconds = atof(argv[5]);
  begun = argv[6];
  prepare(concurrency);
  struct thrower *all = calloc(concurrency, sizeof *all);
  double end = 0;
  const char *comma = "";
  pthread_barrier_init(&ready, 0, concurrency + 1);
  for (int i = 0; i < concurrency; i++) {
    struct thrower *w = &all[i];
    w->th.id = i;
    w->th.tot_c = &w->cells[NP];
    w->th.tot_t = &w->cells[NP + 1];
    for (int p = 0; p < NP; p++) w->th.ph[p] = &w->cells[p];
    int error = pthread_create(&w->thread, 0, throw, w);
    if (error) {
      errno = error;
      die("pthread_create");
    }
  }
  pthread_barrier_wait(&ready);       /* all are warm */
  prctl(PR_SET_NAME, "storm begins"); /* for trace.bt */
  close(CK(open(begun, O_CREAT | O_WRONLY | O_CLOEXEC, 0644)));
  start = now();
  pthread_barrier_wait(&ready);
  for (int i = 0; i < concurrency; i++) {
    pthread_join(all[i].thread, 0);
    if (all[i].end > end) end = all[i].end;
  }
  prctl(PR_SET_NAME, "storm is over");
  printf("{\"seconds\":%.6f,\"composes\":[", (end - start) / 1e6);
  for (int i = 0; i < concurrency; i++)
    for (int n = 0; n < all[i].count; n++) {
      printf("%s%.1f", comma, all[i].composes[n]);
      comma = ",";
    }
  printf("]}\n");
  return 0;
}
