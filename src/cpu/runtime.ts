// The C of the CPU runtime: a queue of program executions, a dispatcher that runs them in order, the threads that share
// the parts of each launch, and aligned memory. What a program is made of is lower.ts's part; binding it is ffi/'s.

/** A program is a list of launches; pointers are relative to the arena (base -1) or to an entry of the run's io table. */
const types = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#define EXPORT __attribute__((visibility("default")))
#define MAX_DEPTH 1024

typedef void (*kernel_fn)(void *const *p, const int64_t *n, int64_t part);
typedef struct { int64_t base, offset; } place;
typedef struct { kernel_fn run; int64_t parts, pointers; const place *places; const int64_t *numbers; } launch;
typedef struct {
  int64_t launches, io, is_small, runs;
  launch *list;
  int64_t *words;
  int64_t *nanoseconds;
} program;

typedef struct task {
  struct task *next;
  program *program;
  int dispose;
  char *arena;
  int64_t ticket;
  void *io[];
} task;

typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t queued, done;
  task *head, *tail;
  int64_t depth, submitted;
  _Atomic int64_t completed;
  _Atomic int pending, abandoned;
  int running, quit, profiling, threads;
  pthread_t *thread;
  /* The launch being shared: epoch in the high half, parts left in the low half. */
  _Atomic uint64_t share;
  _Atomic int64_t finished;
  const launch *current;
  void *const *pointers;
  pthread_mutex_t sleep_lock;
  pthread_cond_t wake, joined;
  _Atomic int sleeping, joining, stopping;
} runtime;

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

/* Whether spinning since 'start' has gone on long enough to sleep; looks at the clock now and then. */
static int spun(int64_t start, int64_t limit, unsigned *turn) {
  relax();
  return (++*turn & 63) == 0 && now() - start > limit;
}
`

/** One launch shared by all threads: a part is owned by whoever takes it off the counter, so fields stay valid while it runs. */
const sharing = `
static int take_part(runtime *r) {
  uint64_t share = atomic_load_explicit(&r->share, memory_order_acquire);
  while ((uint32_t)share != 0) {
    if (!atomic_compare_exchange_weak_explicit(&r->share, &share, share - 1, memory_order_acq_rel, memory_order_acquire)) continue;
    const launch *l = r->current;
    const int64_t parts = l->parts;
    l->run(r->pointers, l->numbers, parts - (int64_t)(uint32_t)share);
    if (atomic_fetch_add(&r->finished, 1) + 1 == parts && atomic_load(&r->joining)) {
      pthread_mutex_lock(&r->sleep_lock);
      pthread_cond_signal(&r->joined);
      pthread_mutex_unlock(&r->sleep_lock);
    }
    return 1;
  }
  return 0;
}

static void join_parts(runtime *r, int64_t parts) {
  const int64_t start = now();
  unsigned turn = 0;
  while (atomic_load_explicit(&r->finished, memory_order_acquire) != parts) {
    if (!spun(start, 50000, &turn)) continue;
    pthread_mutex_lock(&r->sleep_lock);
    atomic_store(&r->joining, 1);
    while (atomic_load(&r->finished) != parts) pthread_cond_wait(&r->joined, &r->sleep_lock);
    atomic_store(&r->joining, 0);
    pthread_mutex_unlock(&r->sleep_lock);
  }
}

static void run_launch(runtime *r, const launch *l, void *const *pointers) {
  if (l->parts == 1 || r->threads == 1) {
    for (int64_t part = 0; part < l->parts; ++part) l->run(pointers, l->numbers, part);
    return;
  }
  r->current = l;
  r->pointers = pointers;
  atomic_store_explicit(&r->finished, 0, memory_order_relaxed);
  const uint64_t epoch = (atomic_load_explicit(&r->share, memory_order_relaxed) >> 32) + 1;
  atomic_store(&r->share, epoch << 32 | (uint64_t)l->parts);
  if (atomic_load(&r->sleeping) > 0) {
    pthread_mutex_lock(&r->sleep_lock);
    pthread_cond_broadcast(&r->wake);
    pthread_mutex_unlock(&r->sleep_lock);
  }
  while (take_part(r)) {}
  join_parts(r, l->parts);
}

static void *work(void *argument) {
  runtime *r = argument;
  while (!atomic_load(&r->stopping)) {
    const int64_t start = now();
    unsigned turn = 0;
    int worked = 0;
    do worked |= take_part(r); while (!worked && !atomic_load_explicit(&r->stopping, memory_order_relaxed) && !spun(start, 50000, &turn));
    if (worked) continue;
    pthread_mutex_lock(&r->sleep_lock);
    atomic_fetch_add(&r->sleeping, 1);
    while ((uint32_t)atomic_load(&r->share) == 0 && !atomic_load(&r->stopping)) pthread_cond_wait(&r->wake, &r->sleep_lock);
    atomic_fetch_sub(&r->sleeping, 1);
    pthread_mutex_unlock(&r->sleep_lock);
  }
  return NULL;
}
`

/** The queue: tasks run in order of submission, on the dispatcher, or at once in the caller if they are tiny and nothing runs. */
const queue = `
static void run_task(runtime *r, const task *t) {
  program *p = t->program;
  if (t->dispose) {
    free(p->words);
    free(p);
    return;
  }
  p->runs += r->profiling;
  for (int64_t i = 0; i < p->launches && !atomic_load_explicit(&r->abandoned, memory_order_relaxed); ++i) {
    const launch *l = &p->list[i];
    void *pointers[l->pointers + 1];
    for (int64_t k = 0; k < l->pointers; ++k)
      pointers[k] = (l->places[k].base < 0 ? t->arena : (char *)t->io[l->places[k].base]) + l->places[k].offset;
    const int64_t start = r->profiling ? now() : 0;
    run_launch(r, l, pointers);
    if (r->profiling) p->nanoseconds[i] += now() - start;
  }
}

static void finish_task(runtime *r, task *t) {
  pthread_mutex_lock(&r->lock);
  r->running = 0;
  atomic_store(&r->completed, t->ticket);
  pthread_cond_broadcast(&r->done);
  pthread_mutex_unlock(&r->lock);
  free(t);
}

static void *dispatch(void *argument) {
  runtime *r = argument;
  for (;;) {
    const int64_t start = now();
    unsigned turn = 0;
    while (!atomic_load_explicit(&r->pending, memory_order_acquire) && !spun(start, 30000, &turn)) {}
    pthread_mutex_lock(&r->lock);
    while ((r->head == NULL || r->running) && !r->quit) pthread_cond_wait(&r->queued, &r->lock);
    task *t = r->head;
    if (t == NULL) {
      pthread_mutex_unlock(&r->lock);
      return NULL;
    }
    r->head = t->next;
    if (r->head == NULL) r->tail = NULL;
    r->depth -= 1;
    atomic_store(&r->pending, r->head != NULL);
    r->running = 1;
    pthread_mutex_unlock(&r->lock);
    run_task(r, t);
    finish_task(r, t);
  }
}

static int64_t enqueue(runtime *r, task *t) {
  pthread_mutex_lock(&r->lock);
  while (r->depth >= MAX_DEPTH && !atomic_load(&r->abandoned)) pthread_cond_wait(&r->done, &r->lock);
  const int64_t ticket = t->ticket = ++r->submitted;
  t->next = NULL;
  if (t->program->is_small && r->head == NULL && !r->running) {
    r->running = 1;
    pthread_mutex_unlock(&r->lock);
    run_task(r, t);
    finish_task(r, t);
    return ticket;
  }
  if (r->tail != NULL) r->tail->next = t;
  else r->head = t;
  r->tail = t;
  r->depth += 1;
  atomic_store(&r->pending, 1);
  pthread_cond_signal(&r->queued);
  pthread_mutex_unlock(&r->lock);
  return ticket;
}
`

/** What JavaScript calls. Functions that may fail return 0 or a negative number; nothing here throws or prints. */
const exports = `
EXPORT int64_t pb_close(runtime *r) {
  pthread_mutex_lock(&r->lock);
  r->quit = 1;
  pthread_cond_broadcast(&r->queued);
  pthread_mutex_unlock(&r->lock);
  if (r->threads > 0) pthread_join(r->thread[0], NULL);
  atomic_store(&r->stopping, 1);
  pthread_mutex_lock(&r->sleep_lock);
  pthread_cond_broadcast(&r->wake);
  pthread_mutex_unlock(&r->sleep_lock);
  for (int i = 1; i < r->threads; ++i) pthread_join(r->thread[i], NULL);
  free(r->thread);
  free(r);
  return 0;
}

/* A runtime with its threads (the dispatcher is one of them); NULL if they cannot be made. */
EXPORT runtime *pb_create(int64_t threads, int64_t profiling) {
  Dl_info self;
  if (dladdr((void *)pb_create, &self) && self.dli_fname) dlopen(self.dli_fname, RTLD_NOW | RTLD_NODELETE);
  runtime *r = calloc(1, sizeof *r);
  if (r == NULL) return NULL;
  pthread_mutex_init(&r->lock, NULL);
  pthread_mutex_init(&r->sleep_lock, NULL);
  pthread_cond_init(&r->queued, NULL);
  pthread_cond_init(&r->done, NULL);
  pthread_cond_init(&r->wake, NULL);
  pthread_cond_init(&r->joined, NULL);
  r->profiling = profiling != 0;
  r->thread = calloc((size_t)threads, sizeof *r->thread);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 8 << 20);
  const int64_t wanted = threads;
  r->threads = (int)wanted;
  int made = 0;
  while (r->thread != NULL && made < wanted && pthread_create(&r->thread[made], &attributes, made == 0 ? dispatch : work, r) == 0) ++made;
  pthread_attr_destroy(&attributes);
  if (made == wanted) return r;
  r->threads = made;
  pb_close(r);
  return NULL;
}

/* words: [launches, io, small, then for each launch: function, parts, pointers, numbers, (base, offset)..., numbers...]. */
EXPORT program *pb_program(const int64_t *source, int64_t count) {
  program *p = calloc(1, sizeof *p);
  const int64_t launches = source[0];
  int64_t *words = malloc((size_t)count * 8 + (size_t)launches * (sizeof(launch) + 8));
  if (p == NULL || words == NULL) {
    free(p);
    free(words);
    return NULL;
  }
  memcpy(words, source, (size_t)count * 8);
  p->launches = launches;
  p->io = words[1];
  p->is_small = words[2];
  p->words = words;
  p->nanoseconds = words + count;
  memset(p->nanoseconds, 0, (size_t)launches * 8);
  p->list = (launch *)(p->nanoseconds + launches);
  const int64_t *at = words + 3;
  for (int64_t i = 0; i < launches; ++i) {
    p->list[i] = (launch){(kernel_fn)(intptr_t)at[0], at[1], at[2], (const place *)(at + 4), at + 4 + 2 * at[2]};
    at += 4 + 2 * at[2] + at[3];
  }
  return p;
}

/* Enqueues an execution and returns its ticket, negative if there is no memory for the task. */
EXPORT int64_t pb_submit(runtime *r, program *p, char *arena, const int64_t *io) {
  task *t = malloc(sizeof *t + (size_t)p->io * sizeof(void *));
  if (t == NULL) return -1;
  t->program = p;
  t->dispose = 0;
  t->arena = arena;
  memcpy(t->io, io, (size_t)p->io * sizeof(void *));
  return enqueue(r, t);
}

/* Frees a program once what was enqueued before has run. */
EXPORT int64_t pb_dispose(runtime *r, program *p) {
  task *t = malloc(sizeof *t);
  if (t == NULL) return -1;
  t->program = p;
  t->dispose = 1;
  return enqueue(r, t);
}

EXPORT int64_t pb_completed(runtime *r) { return atomic_load(&r->completed); }

/* Blocks until the ticket is done: 0, or 1 if the runtime was abandoned before. */
EXPORT int64_t pb_wait(runtime *r, int64_t ticket) {
  pthread_mutex_lock(&r->lock);
  while (atomic_load(&r->completed) < ticket && !atomic_load(&r->abandoned)) pthread_cond_wait(&r->done, &r->lock);
  pthread_mutex_unlock(&r->lock);
  return atomic_load(&r->completed) < ticket;
}

/* Lets every wait return and skips all launches that have not begun: for the exit of the process. */
EXPORT int64_t pb_abandon(runtime *r) {
  atomic_store(&r->abandoned, 1);
  pthread_mutex_lock(&r->lock);
  pthread_cond_broadcast(&r->done);
  pthread_mutex_unlock(&r->lock);
  return 0;
}

/* Nanoseconds spent in each launch, summed over the runs whose number is returned. */
EXPORT int64_t pb_profile(const program *p, double *out) {
  for (int64_t i = 0; i < p->launches; ++i) out[i] = (double)p->nanoseconds[i];
  return p->runs;
}

EXPORT void *pb_alloc(int64_t bytes) {
  void *block = NULL;
  return posix_memalign(&block, 64, (size_t)bytes) == 0 ? block : NULL;
}
EXPORT int64_t pb_free(void *block) { free(block); return 0; }
EXPORT int64_t pb_copy(void *to, const void *from, int64_t bytes) { memcpy(to, from, (size_t)bytes); return 0; }
EXPORT void *pb_open(const char *path) { return dlopen(path, RTLD_NOW | RTLD_LOCAL); }
EXPORT void *pb_symbol(void *library, const char *name) { return dlsym(library, name); }
EXPORT int64_t pb_version(void) { return 1; }
`

/** The text of the runtime's one translation unit. */
export const runtimeSource: string = [types, sharing, queue, exports].join('')
