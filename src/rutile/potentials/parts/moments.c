/* Sums T_i = sum_j R_ij^T G_ij over the neighbours of each centre, G from tables of quintic Hermite interpolation, and
   their derivatives with respect to the vectors; what they are is told by moments.py and hermite.py. The features of a
   pair live in registers only: each is read from its table, used and forgotten.

   Letters: N atoms, E edges sorted by centre, M features. */

#ifndef REAL

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

/* first[a] .. first[a + 1]: the edges of atom a; NULL when out of memory. */
static int64_t *edges_of(int64_t n_atoms, int64_t n, const int64_t *i) {
    int64_t *first = malloc(sizeof(int64_t) * (size_t)(n_atoms + 1));
    for (int64_t a = 0, e = 0; a <= n_atoms && first; a++) {
        while (e < n && i[e] < a) e++;
        first[a] = e;
    }
    return first;
}

#define GLUE2(a, b) a##b
#define GLUE(a, b) GLUE2(a, b)
#define NAME(x) GLUE(x, SUFFIX)

#define REAL double
#define SUFFIX _f64
#include "moments.c"
#undef REAL
#undef SUFFIX
#define REAL float
#define SUFFIX _f32
#include "moments.c"

#else

/* One neighbour: unit vector, 1/r, s, ds/dr, and where its argument lies in the table. */
typedef struct {
    REAL n[3], inverse, s, s_slope;
    REAL w[6], dw[6]; /* weights of f, f', f'' at the left node, then at the right one; their derivatives by x */
    const REAL *f;    /* [2][3][M] of both nodes */
} NAME(Neighbor);

typedef struct {
    int64_t m, n_fine, n_coarse;
    REAL r_s, r_c;
    const REAL *mean, *spread, *ranges, *values;
} NAME(Task);

static inline void NAME(place)(const NAME(Task) * t, const REAL *v, int64_t net, int64_t kind, NAME(Neighbor) * p) {
    const REAL r = (REAL)sqrt((double)(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])), inverse = 1 / r;
    const REAL over = 1 / (t->r_c - t->r_s);
    REAL x = (r - t->r_s) * over;
    x = x < 0 ? 0 : x > 1 ? 1 : x;
    const REAL on = 1 + x * x * x * (-10 + x * (15 - 6 * x)), slope = -30 * x * x * (1 - x) * (1 - x) * over;
    for (int c = 0; c < 3; c++) p->n[c] = v[c] * inverse;
    p->inverse = inverse;
    p->s = on * inverse;
    p->s_slope = (slope - p->s) * inverse;

    const REAL *range = t->ranges + 3 * net, first = range[0], border = range[1], last = range[2];
    const int64_t nodes = t->n_fine + t->n_coarse + 1;
    REAL y = (p->s - t->mean[kind]) / t->spread[2 * kind], inside = y > first && y < last;
    y = y < first ? first : y > last ? last : y;
    const int is_fine = y < border;
    const int64_t n = is_fine ? t->n_fine : t->n_coarse;
    const REAL start = is_fine ? first : border, h = (is_fine ? border - first : last - border) / (REAL)n;
    int64_t k = (int64_t)((y - start) / h);
    k = k >= n ? n - 1 : k;
    const REAL u = (y - (start + (REAL)k * h)) / h, u2 = u * u, u3 = u2 * u;
    p->f = t->values + (net * nodes + (is_fine ? 0 : t->n_fine) + k) * 3 * t->m;
    p->w[3] = u3 * (10 + u * (-15 + 6 * u));
    p->w[0] = 1 - p->w[3];
    p->w[1] = h * (u + u3 * (-6 + u * (8 - 3 * u)));
    p->w[4] = h * u3 * (-4 + u * (7 - 3 * u));
    p->w[2] = h * h * (REAL)0.5 * (u2 + u3 * (-3 + u * (3 - u)));
    p->w[5] = h * h * (REAL)0.5 * u3 * (1 + u * (-2 + u));
    p->dw[3] = inside * u2 * (30 + u * (-60 + 30 * u)) / h;
    p->dw[0] = -p->dw[3];
    p->dw[1] = inside * (1 + u2 * (-18 + u * (32 - 15 * u)));
    p->dw[4] = inside * u2 * (-12 + u * (28 - 15 * u));
    p->dw[2] = inside * h * (u + u2 * ((REAL)-4.5 + u * (6 - (REAL)2.5 * u)));
    p->dw[5] = inside * h * u2 * ((REAL)1.5 + u * (-4 + (REAL)2.5 * u));
}

#define TASK {m, n_fine, n_coarse, (REAL)r_s, (REAL)r_c, mean, spread, ranges, values}

/* T [N, 4, M] */
int NAME(moments)(int64_t n_atoms, int64_t n_edges, int64_t m, int64_t n_fine, int64_t n_coarse, int64_t n_threads,
                  double r_s, double r_c, const int64_t *i, const int64_t *net, const int64_t *kind, const REAL *mean,
                  const REAL *spread, const REAL *ranges, const REAL *values, const REAL *vectors, REAL *out) {
    const NAME(Task) task = TASK;
    int64_t *start = edges_of(n_atoms, n_edges, i);
    if (!start) return 1;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 4) num_threads((int)n_threads) if (n_threads > 1)
#endif
    for (int64_t a = 0; a < n_atoms; a++) {
        REAL *restrict t0 = out + a * 4 * m, *restrict t1 = t0 + m, *restrict t2 = t1 + m, *restrict t3 = t2 + m;
        for (int64_t q = 0; q < 4 * m; q++) t0[q] = 0;
        for (int64_t e = start[a]; e < start[a + 1]; e++) {
            NAME(Neighbor) p;
            NAME(place)(&task, vectors + 3 * e, net[e], kind[e], &p);
            const REAL *restrict f = p.f, *sigma = spread + 2 * kind[e];
            const REAL r0 = p.s / sigma[0], r1 = p.s / sigma[1] * p.n[0], r2 = p.s / sigma[1] * p.n[1],
                       r3 = p.s / sigma[1] * p.n[2];
#pragma omp simd
            for (int64_t q = 0; q < m; q++) {
                const REAL g = p.w[0] * f[q] + p.w[1] * f[m + q] + p.w[2] * f[2 * m + q] + p.w[3] * f[3 * m + q] +
                               p.w[4] * f[4 * m + q] + p.w[5] * f[5 * m + q];
                t0[q] += r0 * g;
                t1[q] += r1 * g;
                t2[q] += r2 * g;
                t3[q] += r3 * g;
            }
        }
    }
    free(start);
    return 0;
}

/* sum_iq c_iq dT_iq / dvectors, [E, 3], of cotangents c [N, 4, M] */
int NAME(moments_gradient)(int64_t n_atoms, int64_t n_edges, int64_t m, int64_t n_fine, int64_t n_coarse,
                           int64_t n_threads, double r_s, double r_c, const int64_t *i, const int64_t *net,
                           const int64_t *kind, const REAL *mean, const REAL *spread, const REAL *ranges,
                           const REAL *values, const REAL *vectors, const REAL *cotangent, REAL *out) {
    const NAME(Task) task = TASK;
    (void)n_atoms;
#ifdef _OPENMP
#pragma omp parallel for schedule(static) num_threads((int)n_threads) if (n_threads > 1)
#endif
    for (int64_t e = 0; e < n_edges; e++) {
        NAME(Neighbor) p;
        NAME(place)(&task, vectors + 3 * e, net[e], kind[e], &p);
        const REAL *restrict f = p.f, *sigma = spread + 2 * kind[e];
        const REAL *restrict c0 = cotangent + i[e] * 4 * m, *restrict c1 = c0 + m, *restrict c2 = c1 + m,
                             *restrict c3 = c2 + m;
        const REAL r0 = p.s / sigma[0], r1 = p.s / sigma[1] * p.n[0], r2 = p.s / sigma[1] * p.n[1],
                   r3 = p.s / sigma[1] * p.n[2];
        REAL b0 = 0, b1 = 0, b2 = 0, b3 = 0, by_x = 0;
#pragma omp simd reduction(+ : b0, b1, b2, b3, by_x)
        for (int64_t q = 0; q < m; q++) {
            const REAL g = p.w[0] * f[q] + p.w[1] * f[m + q] + p.w[2] * f[2 * m + q] + p.w[3] * f[3 * m + q] +
                           p.w[4] * f[4 * m + q] + p.w[5] * f[5 * m + q];
            const REAL slope = p.dw[0] * f[q] + p.dw[1] * f[m + q] + p.dw[2] * f[2 * m + q] + p.dw[3] * f[3 * m + q] +
                               p.dw[4] * f[4 * m + q] + p.dw[5] * f[5 * m + q];
            b0 += g * c0[q];
            b1 += g * c1[q];
            b2 += g * c2[q];
            b3 += g * c3[q];
            by_x += slope * (r0 * c0[q] + r1 * c1[q] + r2 * c2[q] + r3 * c3[q]);
        }
        const REAL along = b1 * p.n[0] + b2 * p.n[1] + b3 * p.n[2], b[3] = {b1, b2, b3};
        const REAL radial = ((b0 + by_x) / sigma[0] + along / sigma[1]) * p.s_slope;
        const REAL turn = p.s / sigma[1] * p.inverse;
        for (int c = 0; c < 3; c++) out[3 * e + c] = radial * p.n[c] + turn * (b[c] - along * p.n[c]);
    }
    return 0;
}

#undef TASK

#endif
