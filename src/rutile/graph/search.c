/* Neighbours of every atom of a batch by bins: directed edges shorter than a cutoff, in canonical order.

   The atoms of a system are wrapped into its cell and sorted into bins about half a cutoff wide. Each atom gathers its
   neighbours from the bins around it, in any order; then each is handed to its neighbour's list, atom after atom: the
   lists come out sorted by neighbour, and only images of one atom have to be put in order. A neighbour and its shift
   are one number that sorts like (j, shift). Letters: N atoms, S systems, E edges. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

enum { SHIFT_BITS = 11, SHIFT_ZERO = 1 << (SHIFT_BITS - 1), SHIFT_MASK = (1 << SHIFT_BITS) - 1, J_AT = 3 * SHIFT_BITS };
enum { MOST_THREADS = 256, FEW_ATOMS = 2000 };

/* Distances so near the cutoff (relative, squared) are computed again as every other part computes them. */
static const double DOUBT = 1e-9;

/* A shift as the lower part of a number, around 0; SHIFT_ZERO of each is added at the end. */
static int64_t packed(const int *s) {
    return ((int64_t)s[0] * (1 << SHIFT_BITS) + s[1]) * (1 << SHIFT_BITS) + s[2];
}

static const int64_t BIAS = ((((int64_t)SHIFT_ZERO << SHIFT_BITS) + SHIFT_ZERO) << SHIFT_BITS) + SHIFT_ZERO;

static void cross(const double *a, const double *b, double *c) {
    for (int k = 0; k < 3; k++) {
        int l = (k + 1) % 3, m = (k + 2) % 3;
        c[k] = a[l] * b[m] - a[m] * b[l];
    }
}

static double norm(const double *a) { return sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2]); }

/* A system with its atoms in bins. */
typedef struct {
    int64_t n, start; /* atoms; number of the first in the batch */
    const double *x;  /* [n, 3], as given */
    double cell[9];   /* 0 in directions that are not periodic */
    int pbc[3], bins[3], reach[3];
    double *at;      /* wrapped, in the order of bins, [n, 3] */
    uint64_t *name;  /* of the atoms, in the order of bins [n] */
    int32_t *bin;    /* of each atom [n] */
    int32_t *first;  /* first atom of each bin [bins + 1] */
    double *wrapped; /* [n, 3] */
    int *turns;      /* how often each was wrapped [n, 3] */
    double widest;   /* the largest of these */
} Bins;

static void let_go(Bins *b) {
    free(b->at), free(b->name), free(b->bin), free(b->first), free(b->wrapped), free(b->turns);
}

/* An atom as a number: which of the batch it is and, below that, how often it was wrapped. */
static uint64_t name_of(const Bins *b, int64_t atom) {
    return ((uint64_t)(b->start + atom) << J_AT) + (uint64_t)packed(b->turns + 3 * atom);
}

/* Rows of `box`: cell vectors, and unit vectors at right angles to them for directions that are not periodic. */
static void complete(const double *cell, const int *pbc, double *box) {
    memcpy(box, cell, 9 * sizeof *box);
    for (int k = 0; k < 3; k++) {
        if (pbc[k]) continue;
        double *v = box + 3 * k, *one = box + 3 * ((k + 1) % 3), *two = box + 3 * ((k + 2) % 3);
        int has_one = pbc[(k + 1) % 3] || (k + 1) % 3 < k, has_two = pbc[(k + 2) % 3] || (k + 2) % 3 < k;
        if (has_one && has_two) {
            cross(one, two, v);
        } else if (has_one || has_two) {
            const double *w = has_one ? one : two;
            int least = fabs(w[0]) < fabs(w[1]) ? 0 : 1;
            if (fabs(w[2]) < fabs(w[least])) least = 2;
            double axis[3] = {least == 0, least == 1, least == 2};
            cross(w, axis, v);
        } else {
            v[0] = 1, v[1] = v[2] = 0;
        }
        double length = norm(v);
        for (int c = 0; c < 3; c++) v[c] /= length;
    }
}

/* Fractions of the box of each atom and where they begin and how far they go; atoms are wrapped. 1: too far to wrap. */
static int wrap(Bins *b, const double *across, double *part, double *low, double *length) {
    double widest = 0;
    for (int k = 0; k < 3; k++) {
        const double *u = across + 3 * k;
        double high = -INFINITY;
        low[k] = INFINITY;
        for (int64_t a = 0; a < b->n; a++) {
            const double *x = b->x + 3 * a;
            double f = x[0] * u[0] + x[1] * u[1] + x[2] * u[2];
            if (b->pbc[k]) {
                double turns = floor(f);
                widest = fmax(widest, fabs(turns));
                b->turns[3 * a + k] = fabs(turns) < SHIFT_ZERO ? (int)turns : 0;
                f -= turns;
            }
            part[3 * a + k] = f;
            low[k] = fmin(low[k], f), high = fmax(high, f);
        }
        if (b->pbc[k]) low[k] = 0, high = 1;
        length[k] = high - low[k];
    }
    b->widest = widest;
    return 4 * widest > SHIFT_ZERO;
}

/* Choose the bins of a box with these distances between its faces. 1: the cutoff reaches over too many cells. */
static int choose(Bins *b, const double *height, double cutoff) {
    for (int k = 0; k < 3; k++) b->bins[k] = (int)fmin(fmax(floor(height[k] / (0.5 * cutoff)), 1), 1024);
    while ((int64_t)b->bins[0] * b->bins[1] * b->bins[2] > 4 * b->n + 64) {
        int most = b->bins[0] >= b->bins[1] ? 0 : 1;
        if (b->bins[2] > b->bins[most]) most = 2;
        b->bins[most] = (b->bins[most] + 1) / 2;
    }
    for (int k = 0; k < 3; k++) {
        double reach = ceil(cutoff / (height[k] / b->bins[k]) + DOUBT);
        if (!b->pbc[k]) reach = fmin(reach, b->bins[k] - 1);
        if (!(reach / b->bins[k] + 1 + 2 * b->widest < SHIFT_ZERO)) return 1;
        b->reach[k] = (int)reach;
    }
    return 0;
}

/* Sort the atoms into the bins, by their fractions of the box. 1: no memory. */
static int sort_atoms(Bins *b, const double *part, const double *low, const double *length) {
    const int64_t all = (int64_t)b->bins[0] * b->bins[1] * b->bins[2];
    b->bin = malloc(sizeof(int32_t) * (size_t)b->n);
    b->first = calloc((size_t)all + 2, sizeof(int32_t));
    b->at = malloc(sizeof(double) * (size_t)(3 * b->n));
    b->name = malloc(sizeof(uint64_t) * (size_t)b->n);
    if (!b->bin || !b->first || !b->at || !b->name) return 1;
    for (int64_t a = 0; a < b->n; a++) {
        int64_t bin = 0;
        for (int k = 0; k < 3; k++) {
            int64_t mine = length[k] > 0 ? (int64_t)((part[3 * a + k] - low[k]) / length[k] * b->bins[k]) : 0;
            bin = bin * b->bins[k] + (mine < 0 ? 0 : mine >= b->bins[k] ? b->bins[k] - 1 : mine);
            b->wrapped[3 * a + k] = b->x[3 * a + k];
            for (int d = 0; d < 3; d++) b->wrapped[3 * a + k] -= b->turns[3 * a + d] * b->cell[3 * d + k];
        }
        b->bin[a] = (int32_t)bin;
        b->first[bin + 2]++;
    }
    for (int64_t c = 0; c < all; c++) b->first[c + 2] += b->first[c + 1];
    for (int64_t a = 0; a < b->n; a++) {
        int64_t to = b->first[b->bin[a] + 1]++;
        memcpy(b->at + 3 * to, b->wrapped + 3 * a, 3 * sizeof(double));
        b->name[to] = name_of(b, a);
    }
    return 0;
}

/* Put a system into bins. 1: no memory, or shifts too large for a number. */
static int fill(Bins *b, const double *cell, const uint8_t *pbc, double cutoff) {
    double box[9], across[9], low[3], length[3], height[3];
    for (int k = 0; k < 9; k++) b->cell[k] = pbc[k / 3] ? cell[k] : 0;
    for (int k = 0; k < 3; k++) b->pbc[k] = pbc[k];
    complete(b->cell, b->pbc, box);
    for (int k = 0; k < 3; k++) cross(box + 3 * ((k + 1) % 3), box + 3 * ((k + 2) % 3), across + 3 * k);
    const double volume = box[0] * across[0] + box[1] * across[1] + box[2] * across[2];
    for (int k = 0; k < 9; k++) across[k] /= volume;
    b->wrapped = malloc(sizeof(double) * (size_t)(3 * b->n));
    b->turns = calloc((size_t)(3 * b->n), sizeof(int));
    double *part = malloc(sizeof(double) * (size_t)(3 * b->n));
    int bad = !b->wrapped || !b->turns || !part || wrap(b, across, part, low, length);
    for (int k = 0; k < 3 && !bad; k++) height[k] = length[k] / norm(across + 3 * k);
    bad = bad || choose(b, height, cutoff) || sort_atoms(b, part, low, length);
    free(part);
    return bad;
}

/* Numbers that grow. */
typedef struct {
    uint64_t *held;
    int64_t size, room;
} Heap;

static int make_room(Heap *heap, int64_t more) {
    if (heap->size + more <= heap->room) return 0;
    int64_t room = 2 * heap->room + more;
    uint64_t *held = realloc(heap->held, sizeof *held * (size_t)room);
    if (!held) return 1;
    heap->held = held, heap->room = room;
    return 0;
}

/* Whether a pair at about the cutoff is nearer, by the sums that `near.c` and PyTorch make: (x_j - x_i) + shift cell. */
static int is_nearer(const Bins *b, int64_t from, uint64_t name, const int *image, double cutoff2) {
    const int64_t to = (int64_t)((name + (uint64_t)BIAS) >> J_AT) - b->start;
    double d2 = 0;
    int s[3];
    for (int k = 0; k < 3; k++) s[k] = image[k] - b->turns[3 * to + k] + b->turns[3 * from + k];
    for (int k = 0; k < 3; k++) {
        double offset = (double)s[0] * b->cell[k] + (double)s[1] * b->cell[3 + k] + (double)s[2] * b->cell[6 + k];
        double d = b->x[3 * to + k] - b->x[3 * from + k] + offset;
        d2 += d * d;
    }
    return d2 < cutoff2;
}

/* Add the neighbours of an atom among those of bins in a row, which lie in one image of the cell. */
static int add_row(Heap *heap, const Bins *b, int64_t atom, int64_t row, const int *image, int from, int to,
                   double cutoff2) {
    const int64_t begin = b->first[row + from], end = b->first[row + to + 1];
    if (make_room(heap, end - begin)) return 1;
    const double *o = b->wrapped + 3 * atom, low = cutoff2 * (1 - DOUBT), high = cutoff2 * (1 + DOUBT);
    double shift[3];
    for (int k = 0; k < 3; k++)
        shift[k] = image[0] * b->cell[k] + image[1] * b->cell[3 + k] + image[2] * b->cell[6 + k];
    const int home = !image[0] && !image[1] && !image[2];
    const uint64_t me = name_of(b, atom);
    const uint64_t turned = (uint64_t)(BIAS - packed(image) - packed(b->turns + 3 * atom));
    uint64_t *out = heap->held + heap->size;
    int64_t found = 0;
    for (int64_t q = begin; q < end; q++) {
        double d2 = 0;
        for (int k = 0; k < 3; k++) {
            double d = b->at[3 * q + k] - o[k] + shift[k];
            d2 += d * d;
        }
        int is_near = d2 < low;
        if (d2 >= low && d2 < high) is_near = is_nearer(b, atom, b->name[q], image, cutoff2);
        out[found] = b->name[q] + turned;
        found += is_near & !(home & (b->name[q] == me));
    }
    heap->size += found;
    return 0;
}

/* Rounded down. */
static int over(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

/* Add the neighbours of an atom: number and negative shift of each. */
static int add_atom(Heap *heap, const Bins *b, int64_t atom, double cutoff2) {
    const int bin = b->bin[atom], at[3] = {bin / b->bins[2] / b->bins[1], bin / b->bins[2] % b->bins[1], bin % b->bins[2]};
    int low[3], high[3], image[3];
    for (int k = 0; k < 3; k++) {
        low[k] = at[k] - b->reach[k], high[k] = at[k] + b->reach[k];
        if (!b->pbc[k]) low[k] = low[k] < 0 ? 0 : low[k], high[k] = high[k] < b->bins[k] ? high[k] : b->bins[k] - 1;
    }
    for (int p = low[0]; p <= high[0]; p++) {
        image[0] = over(p, b->bins[0]);
        for (int q = low[1]; q <= high[1]; q++) {
            image[1] = over(q, b->bins[1]);
            int64_t row = p - image[0] * b->bins[0];
            row = (row * b->bins[1] + q - image[1] * b->bins[1]) * b->bins[2];
            for (image[2] = over(low[2], b->bins[2]); image[2] <= over(high[2], b->bins[2]); image[2]++) {
                int zero = image[2] * b->bins[2], from = low[2] - zero, to = high[2] - zero;
                from = from < 0 ? 0 : from, to = to < b->bins[2] ? to : b->bins[2] - 1;
                if (add_row(heap, b, atom, row, image, from, to, cutoff2)) return 1;
            }
        }
    }
    return 0;
}

/* What a search has found so far: of each thread's atoms the neighbours, one atom after another. */
typedef struct {
    int threads;
    Heap heap[MOST_THREADS];
} Found;

/* Search one system; many[a]: neighbours of each atom. */
static int search(Found *found, const Bins *b, double cutoff, int64_t *many) {
    const int threads = b->n < FEW_ATOMS ? 1 : found->threads;
    int bad = 0;
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(| : bad) if (threads > 1)
#endif
    for (int t = 0; t < threads; t++)
        for (int64_t a = b->n * t / threads; a < b->n * (t + 1) / threads; a++) {
            int64_t before = found->heap[t].size;
            bad |= add_atom(found->heap + t, b, a, cutoff * cutoff);
            many[a] = found->heap[t].size - before;
        }
    return bad;
}

/* Hand what the atoms of a system found to the lists of those that they found. */
static void hand_over(Found *found, const Bins *b, const int64_t *many, int64_t *next, uint64_t *keys) {
    const int threads = b->n < FEW_ATOMS ? 1 : found->threads;
    const uint64_t shifts = ((uint64_t)1 << J_AT) - 1;
    for (int t = 0; t < threads; t++) {
        const uint64_t *from = found->heap[t].held;
        for (int64_t a = b->n * t / threads; a < b->n * (t + 1) / threads; a++) {
            const uint64_t me = (uint64_t)(b->start + a) << J_AT;
            for (int64_t k = 0; k < many[a]; k++, from++)
                keys[next[(int64_t)(*from >> J_AT) - b->start]++] = me | (*from & shifts);
        }
        found->heap[t].size = 0;
    }
}

/* Put images of one neighbour in order: all the rest is. */
static void settle(uint64_t *keys, int64_t n) {
    for (int64_t k = 1; k < n; k++) {
        uint64_t key = keys[k];
        int64_t to = k;
        for (; to > 0 && keys[to - 1] > key; to--) keys[to] = keys[to - 1];
        keys[to] = key;
    }
}

/* Find the edges of one system and add them to `keys`; first [n + 1] counts on from first[0]. */
static int find_in_one(Found *found, Bins *b, const double *cell, const uint8_t *pbc, double cutoff, Heap *keys,
                       int64_t *first) {
    int64_t *many = calloc((size_t)(2 * b->n + 1), sizeof *many), *next = many + b->n;
    int bad = !many || fill(b, cell, pbc, cutoff) || search(found, b, cutoff, many);
    const int threads = b->n < FEW_ATOMS ? 1 : found->threads;
    int64_t total = 0;
    for (int t = 0; t < threads && !bad; t++) total += found->heap[t].size;
    bad = bad || make_room(keys, total);
    if (!bad) {
        for (int t = 0; t < threads; t++)
            for (int64_t k = 0; k < found->heap[t].size; k++)
                next[(int64_t)(found->heap[t].held[k] >> J_AT) - b->start]++;
        for (int64_t a = 0; a < b->n; a++) {
            first[a + 1] = first[a] + next[a];
            next[a] = first[a];
        }
        hand_over(found, b, many, next, keys->held);
        for (int64_t a = 0; a < b->n; a++) settle(keys->held + first[a], first[a + 1] - first[a]);
        keys->size += total;
    }
    free(many);
    return bad;
}

/* All edges of a batch: sizes [S], positions x [N, 3], cells [S, 3, 3], pbc [S, 3].

   -> first [N + 1], where the edges of each atom begin, and `keys`, to be given to one of the functions below; returns E,
   or -1: no memory, or shifts beyond 1000 cells. */
int64_t search_edges(int64_t n_systems, const int64_t *sizes, const double *x, const double *cells, const uint8_t *pbc,
                     double cutoff, int threads, int64_t *first, uint64_t **keys) {
    Found found = {.threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads};
    Heap all = {0};
    int bad = 0;
    first[0] = 0;
    for (int64_t s = 0, a = 0; s < n_systems && !bad; a += sizes[s], s++) {
        Bins b = {.n = sizes[s], .start = a, .x = x + 3 * a};
        if (b.n) bad = find_in_one(&found, &b, cells + 9 * s, pbc + 3 * s, cutoff, &all, first + a);
        let_go(&b);
    }
    for (int t = 0; t < found.threads; t++) free(found.heap[t].held);
    if (bad) free(all.held);
    *keys = bad ? NULL : all.held;
    return bad ? -1 : all.size;
}

/* A component of the shift that a number holds. */
static int64_t shift_of(uint64_t key, int k) {
    return (int64_t)(key >> (2 - k) * SHIFT_BITS & SHIFT_MASK) - SHIFT_ZERO;
}

/* Write what `search_edges` found, and free it: first [N + 1] -> i [E], j [E], shift [E, 3]. */
void write_edges(int64_t n, const int64_t *first, uint64_t *keys, int64_t *i, int64_t *j, int64_t *shift) {
    for (int64_t a = 0; a < n; a++)
        for (int64_t e = first[a]; e < first[a + 1]; e++) {
            i[e] = a, j[e] = (int64_t)(keys[e] >> J_AT);
            for (int k = 0; k < 3; k++) shift[3 * e + k] = shift_of(keys[e], k);
        }
    free(keys);
}

/* Number the images of one system that hold neighbours, as they are met: keys [E] -> image [E], images [M, 4] (system
   and shift), counted on from `found`; returns the last M, or -1: no memory, or shifts too far apart. */
static int64_t number(int64_t n_edges, const uint64_t *keys, int64_t system, int64_t found, int32_t *image,
                      int64_t *images) {
    int64_t low[3] = {SHIFT_ZERO, SHIFT_ZERO, SHIFT_ZERO}, size[3], all = 1;
    for (int k = 0; k < 3; k++) {
        int64_t high = -SHIFT_ZERO;
        for (int64_t e = 0; e < n_edges; e++) {
            int64_t s = shift_of(keys[e], k);
            low[k] = s < low[k] ? s : low[k], high = s > high ? s : high;
        }
        size[k] = high - low[k] + 1, all *= n_edges ? size[k] : 1;
    }
    if (all > 64 * n_edges + (1 << 17)) return -1;
    int32_t *ranks = calloc((size_t)all, sizeof *ranks); /* 0: not met yet */
    if (!ranks) return -1;
    for (int64_t e = 0; e < n_edges; e++) {
        int64_t at = 0;
        for (int k = 0; k < 3; k++) at = at * size[k] + shift_of(keys[e], k) - low[k];
        if (!ranks[at]) {
            images[4 * found] = system;
            for (int k = 0; k < 3; k++) images[4 * found + 1 + k] = shift_of(keys[e], k);
            ranks[at] = (int32_t)++found;
        }
        image[e] = ranks[at] - 1;
    }
    free(ranks);
    return found;
}

/* Write what `search_edges` found as `near.c` reads it, and free it: sizes [S], first [N + 1]
   -> j [E], image [E], images [M, 4], whose room is for E; returns M, or -1: as `number`. */
int64_t write_wide(int64_t n_systems, const int64_t *sizes, const int64_t *first, uint64_t *keys, int32_t *j,
                   int32_t *image, int64_t *images) {
    int64_t found = 0;
    for (int64_t s = 0, a = 0; s < n_systems && found >= 0; a += sizes[s], s++) {
        const int64_t begin = first[a], count = first[a + sizes[s]] - begin;
        found = number(count, keys + begin, s, found, image + begin, images);
        for (int64_t e = begin; e < begin + count; e++) j[e] = (int32_t)(keys[e] >> J_AT);
    }
    free(keys);
    return found;
}
