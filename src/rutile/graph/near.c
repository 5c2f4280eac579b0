/* Which edges of a list that is too wide are near, and whether the list still holds.

   Letters: N atoms, S systems, E edges sorted by centre. */

#ifndef REAL

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

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
