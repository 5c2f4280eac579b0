/* Neighbours: the canonical order of a list, and which of a list that is too wide are near.

   Letters: N atoms, S systems, E edges sorted by centre. */

#ifndef REAL

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

enum { SHIFT_BITS = 11, SHIFT_ZERO = 1 << (SHIFT_BITS - 1), SHIFT_MASK = (1 << SHIFT_BITS) - 1 };

/* Start of each group of a counting sort, from how many there are at [g + 1]. */
static void sum_up(int64_t n, int64_t *first) {
    for (int64_t g = 0; g < n; g++) first[g + 1] += first[g];
}

/* Neighbour and shift as one number that sorts like (j, shift); so near are shifts in all but broken structures. */
static int key_of(int64_t j, const int32_t *shift, uint64_t *key) {
    uint64_t k = (uint64_t)j;
    int fits = 1;
    for (int c = 0; c < 3; c++) {
        int32_t s = shift[c] + SHIFT_ZERO;
        fits &= s >= 0 && s <= SHIFT_MASK;
        k = k << SHIFT_BITS | (uint64_t)(s & SHIFT_MASK);
    }
    *key = k;
    return fits;
}

/* Sort n numbers by Shell's method with Ciura's gaps: quick for the neighbours of an atom. */
static void sort_keys(int64_t n, uint64_t *keys) {
    static const int64_t gaps[] = {1750, 701, 301, 132, 57, 23, 10, 4, 1};
    for (int g = 0; g < 9; g++)
        for (int64_t k = gaps[g]; k < n; k++) {
            uint64_t key = keys[k];
            int64_t to = k;
            for (; to >= gaps[g] && keys[to - gaps[g]] > key; to -= gaps[g]) keys[to] = keys[to - gaps[g]];
            keys[to] = key;
        }
}

/* Sort edges by centre, neighbour and shift: a counting sort by centre, then those of each centre.

   pairs [E, 2], shifts [E, 3] -> i [E], j [E], shift [E, 3]; 1: no memory, or numbers too large: nothing is done. */
int order_edges(int64_t n, int64_t n_edges, const int64_t *pairs, const int32_t *shifts, int64_t *i, int64_t *j,
                int64_t *shift) {
    if (n >= (int64_t)1 << 31) return 1;
    int64_t *first = calloc((size_t)n + 2, sizeof *first);
    uint64_t *keys = malloc(sizeof *keys * (size_t)(n_edges + 1));
    int bad = !first || !keys;
    for (int64_t e = 0; e < n_edges && !bad; e++) first[pairs[2 * e] + 2]++;
    if (!bad) {
        sum_up(n + 1, first);
        for (int64_t e = 0; e < n_edges; e++)
            bad |= !key_of(pairs[2 * e + 1], shifts + 3 * e, keys + first[pairs[2 * e] + 1]++);
    }
    for (int64_t c = 0; c < n && !bad; c++) {
        sort_keys(first[c + 1] - first[c], keys + first[c]);
        for (int64_t k = first[c]; k < first[c + 1]; k++) {
            i[k] = c, j[k] = (int64_t)(keys[k] >> 3 * SHIFT_BITS);
            for (int x = 0; x < 3; x++)
                shift[3 * k + x] = (int64_t)(keys[k] >> (2 - x) * SHIFT_BITS & SHIFT_MASK) - SHIFT_ZERO;
        }
    }
    free(first), free(keys);
    return bad;
}

/* Number the images (system and cell shift) that hold neighbours, as they are met.

   i [E], system [N], shift [E, 3], low [3] and size [3] of the box of shifts; ranks [S * box], all -1
   -> image [E], images [M, 4]; returns M. */
int64_t number_images(int64_t n_edges, const int64_t *i, const int64_t *system, const int64_t *shift, const int64_t *low,
                      const int64_t *size, int32_t *ranks, int32_t *image, int64_t *images) {
    int64_t found = 0;
    for (int64_t e = 0; e < n_edges; e++) {
        const int64_t s = system[i[e]], *m = shift + 3 * e;
        int32_t *rank = ranks + ((s * size[0] + m[0] - low[0]) * size[1] + m[1] - low[1]) * size[2] + m[2] - low[2];
        if (*rank < 0) {
            images[4 * found] = s;
            memcpy(images + 4 * found + 1, m, 3 * sizeof *m);
            *rank = (int32_t)found++;
        }
        image[e] = *rank;
    }
    return found;
}

/* How far the atoms of each system moved, x - x0 [N, 3], once the mean is taken off: the longest (or NaN) -> [S]. */
void farthest(int64_t n, int64_t n_systems, const int64_t *system, const double *x, const double *x0, double *longest) {
    for (int64_t s = 0; s < n_systems; s++) longest[s] = 0;
    for (int64_t a = 0, b = 0; a < n; a = b) {
        double mean[3] = {0, 0, 0}, most = 0;
        for (b = a; b < n && system[b] == system[a]; b++)
            for (int k = 0; k < 3; k++) mean[k] += x[3 * b + k] - x0[3 * b + k];
        for (int k = 0; k < 3; k++) mean[k] /= (double)(b - a);
        for (int64_t c = a; c < b; c++) {
            double d2 = 0;
            for (int k = 0; k < 3; k++) {
                double d = x[3 * c + k] - x0[3 * c + k] - mean[k];
                d2 += d * d;
            }
            most = d2 <= most ? most : d2;
        }
        longest[system[a]] = sqrt(most);
    }
}

#define GLUE2(a, b) a##b
#define GLUE(a, b) GLUE2(a, b)
#define NAME(x) GLUE(x, SUFFIX)

#define REAL double
#define SUFFIX _f64
#include "near.c"
#undef REAL
#undef SUFFIX
#define REAL float
#define SUFFIX _f32
#include "near.c"

#else

/* The near edges of centres a .. b, written from `at` on; returns how many. */
static int64_t NAME(near_of)(int64_t a, int64_t b, int64_t at, const int64_t *first,
                             const int32_t *wide_j, const int32_t *wide_image, const double *x, const double *offsets,
                             double cutoff2, int64_t *which, int64_t *i, int64_t *j, REAL *vectors,
                             double *nearest) {
    const int64_t began = at;
    for (int64_t c = a; c < b; c++) {
        const double *o = x + 3 * c;
        double least = INFINITY;
        for (int64_t e = first[c]; e < first[c + 1]; e++) {
            const double *p = x + 3 * (int64_t)wide_j[e];
            const double *s = offsets + 3 * (int64_t)wide_image[e];
            double d[3];
            for (int k = 0; k < 3; k++) d[k] = p[k] - o[k] + s[k];
            double d2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
            if (which) which[at] = e;
            i[at] = c, j[at] = wide_j[e];
            for (int k = 0; k < 3; k++) vectors[3 * at + k] = (REAL)d[k];
            int is_near = d2 < cutoff2;
            least = is_near && d2 < least ? d2 : least;
            at += is_near;
        }
        nearest[c] = least;
    }
    return at - began;
}

/* Which edges of a list are shorter than the cutoff, with their vectors, in the order of the list.

   first [N + 1], wide_j [E], wide_image [E]: the list; images [M, 4]: system and cell shift; positions x [N, 3], cells
   [S, 3, 3]; offsets [M, 3]: room for what is added to positions.
   -> which [E] (or NULL), i [E], j [E], vectors [E, 3], of which as many are good as is returned; closest [S]: shortest
   distance in each system, or infinity. Each thread has a part of the centres and writes where these begin. */
int64_t NAME(near_edges)(int64_t n, int64_t n_systems, int threads, const int64_t *first, const int64_t *system,
                         const int32_t *wide_j, const int32_t *wide_image, int64_t n_images, const int64_t *images,
                         const double *x, const double *cells, double *offsets, double cutoff2, int64_t *which,
                         int64_t *i, int64_t *j, REAL *vectors, double *nearest, double *closest) {
    enum { MOST = 256 };
    int64_t begin[MOST + 1], found[MOST];
    for (int64_t m = 0; m < n_images; m++) {
        const int64_t *image = images + 4 * m;
        const double *cell = cells + 9 * image[0];
        for (int k = 0; k < 3; k++)
            offsets[3 * m + k] =
                (double)image[1] * cell[k] + (double)image[2] * cell[3 + k] + (double)image[3] * cell[6 + k];
    }
    threads = threads < 1 ? 1 : threads > MOST ? MOST : threads;
    for (int t = 0; t <= threads; t++) begin[t] = n * t / threads;
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
#endif
    for (int t = 0; t < threads; t++)
        found[t] = NAME(near_of)(begin[t], begin[t + 1], first[begin[t]], first, wide_j, wide_image, x, offsets,
                                 cutoff2, which, i, j, vectors, nearest);
    int64_t at = found[0];
    for (int t = 1; t < threads; t++) {
        int64_t from = first[begin[t]], many = found[t];
        if (which) memmove(which + at, which + from, sizeof *which * (size_t)many);
        memmove(i + at, i + from, sizeof *i * (size_t)many);
        memmove(j + at, j + from, sizeof *j * (size_t)many);
        memmove(vectors + 3 * at, vectors + 3 * from, sizeof *vectors * 3 * (size_t)many);
        at += many;
    }
    for (int64_t s = 0; s < n_systems; s++) closest[s] = INFINITY;
    for (int64_t c = 0; c < n; c++)
        if (nearest[c] < closest[system[c]]) closest[system[c]] = nearest[c];
    for (int64_t s = 0; s < n_systems; s++) closest[s] = sqrt(closest[s]);
    return at;
}

#endif
