/* Behler-Parrinello symmetry functions: values, and their products with derivatives, one centre at a time.

   J. Behler, J. Chem. Phys. 134, 074106 (2011), doi:10.1063/1.3553717. What is computed, and in which conventions, is
   told by symmetry.py and symmetry_eager.py; this file only does it fast. symmetry_native.py builds the plan (below)
   and calls the functions at the end.

   How it is fast. The neighbours of a centre are laid out by species, each block padded to whole vectors of VL lanes.
   A triplet (j, k) is a row j against a vector of k. With z = r^2 / rc^2 and c = cos(theta),
       G4 = sum_{jk} sum_e A_e(j) A_e(k) exp(-eta_e r_jk^2) fc(r_jk) . P_p(c),   P_p = (1 + lambda c)^zeta,
   so that each triplet needs one exponential for each distinct eta, one power for each distinct (lambda, zeta), and one
   multiply-add for each function. Padded lanes have A_e = 0. Derivatives use the invariants r_j, r_k and d = r_j . r_k:
       dE/dr_j = U_j r_j + D r_k,  U_j = (dE/dr_j) / r_j,  D = dE/dd.

   This file includes itself twice, for double and for float. Lengths in Angstrom. Letters: N centres, E edges sorted by
   centre, K columns. */

#ifndef REAL

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define INLINE static inline __attribute__((always_inline))
#define ALIGNED(n) (((size_t)(n) + 63) / 64 * 64)

enum { VALUES, VJP, JVP, JACOBIAN };              /* what an entry point computes */
enum { COSINE, TANH3, POLYNOMIAL, EXPONENTIAL };  /* cutoff functions */

/* The plan of a table: what symmetry_native.py wrote into one stream of integers and one of reals. */
typedef struct {
    int species, n;
    const int64_t *column;
    const double *eta, *shift;
} Radial;

typedef struct {
    int a, b, has_rjk, n_eta, n_power, n;
    double shift;
    const int64_t *factor;   /* [n_eta] row of the shell's factors */
    const double *eta;       /* [n_eta] */
    const int64_t *end;      /* [n_eta] functions of eta e: end[e-1] .. end[e] */
    const double *lambda, *zeta; /* [n_power] */
    const int64_t *whole;    /* [n_power] zeta where it is a positive integer, else 0 */
    const int64_t *power, *column; /* [n] */
    const double *scale;     /* [n] 2^(1 - zeta) */
} Angular;

typedef struct {
    double cutoff;
    int n_radial, n_factor, n_angular;
    Radial *radial;
    const double *eta, *shift; /* [n_factor] exp(-eta (r - shift)^2) fc(r) of each neighbour */
    Angular *angular;
} Shell; /* functions of one centre element with one cutoff */

typedef struct {
    int n_shell;
    Shell *shell;
} Centre;

typedef struct {
    int n_centre, n_species, max_factor, max_eta, max_power, max_n;
    const int64_t *centre_of, *species_of; /* [119] of an atomic number, -1: none */
    int kind;
    double a, b, norm; /* of the cutoff function */
    Centre *centre;
    void *memory;
} Plan;

static void free_plan(Plan *p) {
    free(p->memory);
}

/* 0 when out of memory. The structs live in one block whose size is bounded by the length of the streams. */
static int read_plan(Plan *p, const int64_t *ints, int64_t n_ints, const double *reals) {
    const int64_t *i = ints;
    const double *r = reals;
    char *free_at = p->memory = calloc((size_t)n_ints + 1, sizeof(Angular));
    if (!free_at) return 0;
#define TAKE(type, n) (type *)free_at; free_at += sizeof(type) * (size_t)(n)
    p->kind = (int)*i++;
    p->a = *r++, p->b = *r++, p->norm = *r++;
    p->n_species = (int)*i++;
    p->centre_of = i, i += 119;
    p->species_of = i, i += 119;
    p->n_centre = (int)*i++;
    p->max_factor = p->max_eta = p->max_power = p->max_n = 0;
    p->centre = TAKE(Centre, p->n_centre);
    for (int c = 0; c < p->n_centre; c++) {
        Centre *centre = &p->centre[c];
        centre->n_shell = (int)*i++;
        centre->shell = TAKE(Shell, centre->n_shell);
        for (int s = 0; s < centre->n_shell; s++) {
            Shell *shell = &centre->shell[s];
            shell->cutoff = *r++;
            shell->n_radial = (int)*i++;
            shell->n_factor = (int)*i++;
            shell->n_angular = (int)*i++;
            shell->radial = TAKE(Radial, shell->n_radial);
            for (int g = 0; g < shell->n_radial; g++) {
                Radial *radial = &shell->radial[g];
                radial->species = (int)*i++;
                radial->n = (int)*i++;
                radial->column = i, i += radial->n;
                radial->eta = r, r += radial->n;
                radial->shift = r, r += radial->n;
                if (radial->n > p->max_n) p->max_n = radial->n;
            }
            shell->eta = r, r += shell->n_factor;
            shell->shift = r, r += shell->n_factor;
            if (shell->n_factor > p->max_factor) p->max_factor = shell->n_factor;
            shell->angular = TAKE(Angular, shell->n_angular);
            for (int g = 0; g < shell->n_angular; g++) {
                Angular *angular = &shell->angular[g];
                angular->a = (int)*i++, angular->b = (int)*i++, angular->has_rjk = (int)*i++;
                angular->n_eta = (int)*i++, angular->n_power = (int)*i++, angular->n = (int)*i++;
                angular->shift = *r++;
                angular->factor = i, i += angular->n_eta;
                angular->end = i, i += angular->n_eta;
                angular->eta = r, r += angular->n_eta;
                angular->whole = i, i += angular->n_power;
                angular->lambda = r, r += angular->n_power;
                angular->zeta = r, r += angular->n_power;
                angular->power = i, i += angular->n;
                angular->column = i, i += angular->n;
                angular->scale = r, r += angular->n;
                if (angular->n_eta > p->max_eta) p->max_eta = angular->n_eta;
                if (angular->n_power > p->max_power) p->max_power = angular->n_power;
                if (angular->n > p->max_n) p->max_n = angular->n;
            }
        }
    }
#undef TAKE
    return 1;
}

/* Entry of an atomic number; -1 also for what is none. */
static inline int64_t look_up(const int64_t *table, int64_t number) {
    return number >= 0 && number < 119 ? table[number] : -1;
}

#define GLUE2(a, b) a##b
#define GLUE(a, b) GLUE2(a, b)
#define NAME(x) GLUE(x, SUFFIX)

#define REAL double
#define INT int64_t
#define SUFFIX _f64
#define MAGIC 6755399441055744.0
#define MANTISSA 52
#define LOWEST -708.0
#define HIGHEST 709.0
#define TINY 1e-300
#include "symmetry.c"
#undef REAL
#undef INT
#undef SUFFIX
#undef MAGIC
#undef MANTISSA
#undef LOWEST
#undef HIGHEST
#undef TINY

#define REAL float
#define INT int32_t
#define SUFFIX _f32
#define MAGIC 12582912.0f
#define MANTISSA 23
#define LOWEST -87.0f
#define HIGHEST 88.0f
#define TINY 1e-36f
#include "symmetry.c"

#else /* ------------------------------------------------------------- the template, for one REAL */

#define VL ((int)(BYTES / sizeof(REAL)))
#define vec NAME(vec)
#define ivec NAME(ivec)
#define Work NAME(Work)
typedef REAL vec __attribute__((vector_size(BYTES)));
typedef INT ivec __attribute__((vector_size(BYTES)));

INLINE vec NAME(splat)(REAL a) { return a + (vec){0}; }
INLINE vec NAME(load)(const REAL *p) { return *(const vec *)p; }
INLINE void NAME(store)(REAL *p, vec v) { *(vec *)p = v; }
INLINE vec NAME(keep)(ivec mask, vec v) { return (vec)(mask & (ivec)v); }
INLINE vec NAME(choose)(ivec mask, vec yes, vec no) { return (vec)((mask & (ivec)yes) | (~mask & (ivec)no)); }
INLINE REAL NAME(sum)(vec v) {
    REAL s = 0;
    for (int l = 0; l < VL; l++) s += v[l];
    return s;
}
INLINE int NAME(any)(ivec mask) {
    uint64_t word[BYTES / 8], s = 0;
    memcpy(word, &mask, BYTES);
    for (int l = 0; l < BYTES / 8; l++) s |= word[l];
    return s != 0;
}
INLINE vec NAME(root)(vec v) {
    REAL x[VL] __attribute__((aligned(BYTES)));
    *(vec *)x = v;
    for (int l = 0; l < VL; l++) x[l] = sizeof(REAL) == 8 ? (REAL)sqrt(x[l]) : (REAL)sqrtf((float)x[l]);
    return *(vec *)x;
}

/* e^x to about 1 ulp; NaN stays NaN; below LOWEST a number that is as good as 0. */
INLINE vec NAME(exponential)(vec x) {
    x = NAME(choose)(x < (REAL)LOWEST, NAME(splat)((REAL)LOWEST), x);
    x = NAME(choose)(x > (REAL)HIGHEST, NAME(splat)((REAL)HIGHEST), x);
    vec shifted = x * (REAL)1.4426950408889634 + (REAL)MAGIC;
    vec n = shifted - (REAL)MAGIC, p;
    if (sizeof(REAL) == 8) {
        vec t = x - n * (REAL)6.93147180369123816490e-01;
        t = t - n * (REAL)1.90821492927058770002e-10;
        vec t2 = t * t, t4 = t2 * t2;
        vec low = ((REAL)1 + t) + t2 * ((REAL)0.500000000000001857 + (REAL)0.1666666666666668095 * t);
        vec mid = ((REAL)0.04166666666648666122 + (REAL)0.008333333333319490318 * t)
                  + t2 * ((REAL)0.001388888895269651566 + (REAL)0.000198412698903406653 * t);
        vec top = ((REAL)0.0000248014850741051167 + (REAL)2.755724060466389582e-6 * t)
                  + t2 * ((REAL)2.763279054211718101e-7 + (REAL)2.51101536469289314e-8 * t);
        p = low + t4 * (mid + t4 * top);
    } else {
        vec t = x - n * (REAL)0.693359375f;
        t = t - n * (REAL)-2.12194440e-4f;
        vec t2 = t * t;
        vec top = ((REAL)0.04166635164f + (REAL)0.008375210201f * t) + t2 * (REAL)0.00139412131f;
        p = ((REAL)1 + t) + t2 * ((REAL)0.5000000047f + (REAL)0.1666641451f * t + t2 * top);
    }
    return (vec)((ivec)p + ((ivec)shifted << MANTISSA));
}

/* The cutoff function f(r) and its derivative df / d(r^2), where r < cutoff; elsewhere meaningless, but finite. */
INLINE void NAME(cutoff)(const Plan *plan, double cutoff, vec r2, vec *f, vec *df) {
    const REAL inverse2 = (REAL)(1 / (cutoff * cutoff)), square = (REAL)(cutoff * cutoff);
    if (plan->kind == COSINE) { /* f = y^2 h(y), df/dz = -y k(y), y = 1 - z: both entire in y, minimax on [0, 1] */
        vec y = (square - r2) * inverse2, h, k;
        if (sizeof(REAL) == 8) {
            vec y2 = y * y, y4 = y2 * y2;
            h = (((REAL)0.6168502750680849125 + (REAL)0.3084251375340426893 * y)
                 + y2 * ((REAL)0.06593095700824486004 + (REAL)0.008101243720717655468 * y))
                + y4 * ((((REAL)0.000653328927688823032 + (REAL)0.00003740088249041660221 * y)
                         + y2 * ((REAL)1.602057633204481918e-6 + (REAL)5.335209222652131089e-8 * y))
                        + y4 * ((REAL)1.415045042519902345e-9 + (REAL)3.396016833111467707e-11 * y));
            k = (((REAL)1.233700550136169813 + (REAL)0.9252754126021301781 * y)
                 + y2 * ((REAL)0.2637238280329175039 + (REAL)0.04050621860428232462 * y))
                + y4 * ((((REAL)0.003919973562264395946 + (REAL)0.0002618061894729374098 * y)
                         + y2 * ((REAL)0.00001281643916750382813 + (REAL)4.801919380001638145e-7 * y))
                        + y4 * ((REAL)1.413735259443878131e-8 + (REAL)3.76644388685902438e-10 * y));
        } else {
            vec y2 = y * y;
            h = ((REAL)0.6168502742f + (REAL)0.3084251997f * y)
                + y2 * (((REAL)0.06593023291f + (REAL)0.008104318206f * y)
                        + y2 * ((REAL)0.0006474544637f + (REAL)4.251957443e-5f * y));
            k = ((REAL)1.233700543f + (REAL)0.9252759165f * y)
                + y2 * (((REAL)0.2637179649f + (REAL)0.04053109847f * y)
                        + y2 * ((REAL)0.003872488959f + (REAL)0.0003030810311f * y));
        }
        *f = y * y * h;
        *df = -inverse2 * y * k;
        return;
    }
    vec r = NAME(root)(r2), y = ((REAL)cutoff - r) * (REAL)(1 / cutoff), x = (REAL)1 - y;
    vec slope = (REAL)(0.5 / cutoff) / r; /* d/d(r^2) = slope d/dx */
    if (plan->kind == TANH3) {            /* norm tanh^3(y); tanh by its continued fraction */
        vec y2 = y * y, up = NAME(splat)(19), down = NAME(splat)(1);
        for (int m = 17; m >= 1; m -= 2) {
            vec next = (REAL)m * up + y2 * down;
            down = up;
            up = next;
        }
        vec t = y * down / up;
        *f = (REAL)plan->norm * t * t * t;
        *df = (REAL)(-3 * plan->norm) * t * t * ((REAL)1 - t * t) * slope;
    } else if (plan->kind == EXPONENTIAL) { /* exp(-x^2 / (1 - x^2)) */
        vec q = (REAL)1 / (y * ((REAL)1 + x));
        *f = NAME(exponential)(-x * x * q);
        *df = (REAL)-2 * x * q * q * *f * slope;
    } else { /* y^a sum_{m<b} C(m+a-1, m) x^m, whose derivative in x is -norm x^(b-1) y^(a-1) */
        const int a = (int)plan->a, b = (int)plan->b;
        vec power = NAME(splat)(1), series = NAME(splat)(1), high = NAME(splat)(1);
        REAL binomial = 1;
        for (int m = 1; m < b; m++) {
            power *= x;
            binomial *= (REAL)(m + a - 1) / (REAL)m;
            series += binomial * power;
        }
        for (int m = 1; m < a; m++) high *= y;
        *f = high * y * series;
        *df = (REAL)-plan->norm * power * high * slope;
    }
}

/* x^n and its derivative n x^(n-1), for lanes of x >= 0. */
INLINE void NAME(power)(vec x, int64_t whole, double zeta, vec *p, vec *dp) {
    if (whole) {
        vec result = NAME(splat)(1), square = x; /* x^(whole - 1) by squaring */
        for (int64_t n = whole - 1; n; n >>= 1) {
            if (n & 1) result *= square;
            if (n > 1) square *= square;
        }
        *p = result * x;
        *dp = (REAL)whole * result;
        return;
    }
    if (zeta == 0) {
        *p = NAME(splat)(1);
        *dp = (vec){0};
        return;
    }
    for (int l = 0; l < VL; l++) {
        double low = x[l] == 0 ? 0 : pow((double)x[l], zeta - 1);
        (*p)[l] = (REAL)(low * (double)x[l]);
        (*dp)[l] = (REAL)(zeta * low);
    }
}

/* The neighbours of one centre inside one shell, by species, and what is summed for them. */
typedef struct {
    size_t room;       /* length of each array of neighbours */
    int *start, *stop; /* [species] block; padded to whole vectors */
    int length;        /* padded length in use */
    int64_t *edge;     /* [room] edge of each neighbour; -1: padding */
    REAL *x, *y, *z, *inverse, *f, *slope; /* r_ij, 1/r, fc(r), (dfc/dr) / (r fc) */
    REAL *factor;      /* [max_factor][room] */
    REAL *ux, *uy, *uz, *along; /* JVP: tangent u of r_ij, and u . r_ij */
    REAL *sum_u, *sum_x, *sum_y, *sum_z; /* VJP: of this shell; the gradient is sum_u r_ij + (sum_x, sum_y, sum_z) */
    REAL *jacobian;    /* JACOBIAN: [max columns][4][room] of the same */
    vec *value, *power, *d_power, *row; /* scratch of one group */
    REAL *weight;      /* [max_n] dE/dG times scale of each function of a group */
    void *memory;
} Work;

/* 0 when out of memory. */
static int NAME(new_work)(Work *w, const Plan *p, int64_t max_degree, int mode, int64_t columns) {
    size_t room = (size_t)max_degree + (size_t)(p->n_species + 1) * (size_t)VL;
    room = (room + (size_t)VL - 1) / (size_t)VL * (size_t)VL;
    size_t line = ALIGNED(room * sizeof(REAL)), n = (size_t)(p->max_n + p->max_power + p->max_eta + 1);
    size_t size = 2 * ALIGNED((size_t)(p->n_species + 1) * sizeof(int)) + ALIGNED(room * sizeof(int64_t)) + 14 * line
                  + (size_t)p->max_factor * line + 8 * ALIGNED(n * sizeof(vec))
                  + (mode == JACOBIAN ? (size_t)columns * 4 * line : 0);
    char *at = w->memory = aligned_alloc(64, ALIGNED(size));
    if (!at) return 0;
    memset(at, 0, size);
    w->room = room;
#define TAKE(type, bytes) (type *)at; at += ALIGNED(bytes)
    w->start = TAKE(int, (size_t)(p->n_species + 1) * sizeof(int));
    w->stop = TAKE(int, (size_t)(p->n_species + 1) * sizeof(int));
    w->edge = TAKE(int64_t, room * sizeof(int64_t));
    REAL **lines[14] = {&w->x, &w->y, &w->z, &w->inverse, &w->f, &w->slope, &w->ux, &w->uy, &w->uz, &w->along,
                        &w->sum_u, &w->sum_x, &w->sum_y, &w->sum_z};
    for (int l = 0; l < 14; l++) { *lines[l] = TAKE(REAL, line); }
    w->factor = TAKE(REAL, (size_t)p->max_factor * line);
    w->value = TAKE(vec, n * sizeof(vec));
    w->power = TAKE(vec, n * sizeof(vec));
    w->d_power = TAKE(vec, n * sizeof(vec));
    w->row = TAKE(vec, 4 * n * sizeof(vec));
    w->weight = TAKE(REAL, n * sizeof(vec));
    w->jacobian = (REAL *)at;
#undef TAKE
    w->room = line / sizeof(REAL);
    return 1;
}

/* Lay out the neighbours r < cutoff (a NaN counts as one, so that it is not lost). */
INLINE void NAME(fill)(int mode, Work *w, const Plan *plan, const Shell *shell, int64_t first, int64_t last,
                       const int64_t *neighbor, const int64_t *numbers, const REAL *vectors, const REAL *tangent) {
    const REAL square = (REAL)(shell->cutoff * shell->cutoff);
    for (int s = 0; s < plan->n_species; s++) w->stop[s] = 0;
    for (int64_t e = first; e < last; e++) {
        const REAL *v = vectors + 3 * e;
        int64_t s = look_up(plan->species_of, numbers[neighbor[e]]);
        if (s >= 0 && !(v[0] * v[0] + v[1] * v[1] + v[2] * v[2] >= square)) w->stop[s]++;
    }
    int at = 0;
    for (int s = 0; s < plan->n_species; s++) {
        int end = at + (w->stop[s] + VL - 1) / VL * VL;
        for (int m = at + w->stop[s]; m < end; m++) {
            w->edge[m] = -1;
            w->x[m] = w->y[m] = w->z[m] = 0;
            if (mode == JVP) w->ux[m] = w->uy[m] = w->uz[m] = 0;
        }
        w->start[s] = w->stop[s] = at;
        at = end;
    }
    w->length = at;
    for (int64_t e = first; e < last; e++) {
        const REAL *v = vectors + 3 * e;
        int64_t s = look_up(plan->species_of, numbers[neighbor[e]]);
        if (s < 0 || v[0] * v[0] + v[1] * v[1] + v[2] * v[2] >= square) continue;
        int m = w->stop[s]++;
        w->edge[m] = e;
        w->x[m] = v[0], w->y[m] = v[1], w->z[m] = v[2];
        if (mode == JVP) w->ux[m] = tangent[3 * e], w->uy[m] = tangent[3 * e + 1], w->uz[m] = tangent[3 * e + 2];
    }
    for (int m = 0; m < w->length; m += VL) {
        vec x = NAME(load)(w->x + m), y = NAME(load)(w->y + m), z = NAME(load)(w->z + m), f, df;
        ivec real;
        for (int l = 0; l < VL; l++) real[l] = w->edge[m + l] >= 0 ? -1 : 0;
        vec r2 = x * x + y * y + z * z;
        r2 = NAME(choose)(real, r2, NAME(splat)((REAL)0.25 * square)); /* any finite number for the padding */
        vec r = NAME(root)(r2), inverse = (REAL)1 / r;
        NAME(cutoff)(plan, shell->cutoff, r2, &f, &df);
        vec slope = (REAL)2 * df / NAME(choose)(f < (REAL)TINY, NAME(splat)((REAL)TINY), f);
        f = NAME(keep)(real, f);
        NAME(store)(w->inverse + m, inverse);
        NAME(store)(w->f + m, f);
        NAME(store)(w->slope + m, slope);
        for (int q = 0; q < shell->n_factor; q++) {
            vec t = r - (REAL)shell->shift[q];
            NAME(store)(w->factor + (size_t)q * w->room + m, f * NAME(exponential)((REAL)-shell->eta[q] * t * t));
        }
        if (mode == JVP)
            NAME(store)(w->along + m, x * NAME(load)(w->ux + m) + y * NAME(load)(w->uy + m) + z * NAME(load)(w->uz + m));
        if (mode == VJP) {
            NAME(store)(w->sum_u + m, (vec){0});
            NAME(store)(w->sum_x + m, (vec){0});
            NAME(store)(w->sum_y + m, (vec){0});
            NAME(store)(w->sum_z + m, (vec){0});
        }
    }
}

/* A group of G2. In JACOBIAN mode function n of the group is column first + n of w->jacobian. */
INLINE void NAME(radial)(int mode, Work *w, const Radial *g, const REAL *cotangent, REAL *out, int first) {
    for (int n = 0; n < g->n; n++) {
        const REAL eta = (REAL)g->eta[n], shift = (REAL)g->shift[n];
        const REAL weight = mode == VJP ? cotangent[g->column[n]] : 0;
        vec total = {0};
        const int stop = (w->stop[g->species] + VL - 1) / VL * VL;
        for (int m = w->start[g->species]; m < stop; m += VL) {
            vec inverse = NAME(load)(w->inverse + m), t = (REAL)1 / inverse - shift;
            vec value = NAME(load)(w->f + m) * NAME(exponential)(-eta * t * t);
            vec u = value * (NAME(load)(w->slope + m) - (REAL)2 * eta * t * inverse);
            if (mode == VALUES || mode == JACOBIAN) total += value;
            if (mode == VJP) NAME(store)(w->sum_u + m, NAME(load)(w->sum_u + m) + weight * u);
            if (mode == JVP) total += u * NAME(load)(w->along + m);
            if (mode == JACOBIAN) NAME(store)(w->jacobian + (size_t)(first + n) * 4 * w->room + m, u);
        }
        if (mode != VJP) out[g->column[n]] += NAME(sum)(total);
    }
}

/* A group of G4 (four = 1) or G5 of one pair of species, cutoff and shift. */
INLINE void NAME(angular)(int mode, int four, Work *w, const Plan *plan, const Shell *shell, const Angular *g,
                          const REAL *cotangent, REAL *out, int first) {
    const int same = g->a == g->b, shifted = g->shift != 0;
    const REAL square = (REAL)(shell->cutoff * shell->cutoff), shift = (REAL)g->shift;
    const size_t room = w->room;
    ivec lane;
    for (int l = 0; l < VL; l++) lane[l] = l;
    for (int n = 0; n < g->n; n++) {
        w->value[n] = (vec){0};
        if (mode == VJP) w->weight[n] = cotangent[g->column[n]] * (REAL)g->scale[n];
    }
    const int stop_b = (w->stop[g->b] + VL - 1) / VL * VL;
    for (int j = w->start[g->a]; j < w->stop[g->a]; j++) {
        const REAL xj = w->x[j], yj = w->y[j], zj = w->z[j], inverse_j = w->inverse[j];
        const REAL slope_j = w->slope[j], m_j = 2 * (1 - shift * inverse_j);
        vec sum_u = {0}, sum_x = {0}, sum_y = {0}, sum_z = {0};
        if (mode == JACOBIAN) for (int n = 0; n < 4 * g->n; n++) w->row[n] = (vec){0};
        for (int k = same ? j / VL * VL : w->start[g->b]; k < stop_b; k += VL) {
            vec xk = NAME(load)(w->x + k), yk = NAME(load)(w->y + k), zk = NAME(load)(w->z + k);
            vec dx = xk - xj, dy = yk - yj, dz = zk - zj;
            vec rjk2 = dx * dx + dy * dy + dz * dz;
            ivec mask = four ? rjk2 < square : (ivec){0} == 0;
            if (same) mask &= lane + (INT)k > (INT)j;
            if (!NAME(any)(mask)) continue;
            vec inverse_k = NAME(load)(w->inverse + k);
            vec c = (xk * xj + yk * yj + zk * zj) * (inverse_k * inverse_j);
            vec f, df, tjk = {0}, mjk = NAME(splat)(1); /* (r_jk - shift), and its ratio to r_jk */
            if (four) {
                NAME(cutoff)(plan, shell->cutoff, rjk2, &f, &df);
                f = NAME(keep)(mask, f);
                df = NAME(keep)(mask, df);
                if (shifted) {
                    vec rjk = NAME(choose)(mask, NAME(root)(rjk2), NAME(splat)(1));
                    tjk = rjk - shift;
                    mjk = tjk / rjk;
                }
            } else {
                f = NAME(keep)(mask, NAME(splat)(1));
                df = (vec){0};
            }
            for (int p = 0; p < g->n_power; p++) {
                vec x = (REAL)1 + (REAL)g->lambda[p] * c;
                x = NAME(choose)(x < (REAL)0, (vec){0}, x);
                NAME(power)(x, g->whole[p], g->zeta[p], &w->power[p], &w->d_power[p]);
                w->d_power[p] *= (REAL)g->lambda[p];
            }
            vec slope_k = NAME(load)(w->slope + k), m_k = (REAL)2 * ((REAL)1 - shift * inverse_k);
            vec alpha, gamma, beta, delta; /* JVP: d(triplet) = f alpha - eta f (beta + 2 gamma mjk) + 2 df gamma; dc = delta */
            if (mode == JVP) {
                vec along_k = NAME(load)(w->along + k);
                vec ux = NAME(load)(w->ux + k), uy = NAME(load)(w->uy + k), uz = NAME(load)(w->uz + k);
                vec both = xk * w->ux[j] + yk * w->uy[j] + zk * w->uz[j] + xj * ux + yj * uy + zj * uz;
                alpha = slope_j * w->along[j] + slope_k * along_k;
                beta = m_j * w->along[j] + m_k * along_k;
                gamma = w->along[j] + along_k - both;
                delta = inverse_j * inverse_k * both
                        - c * (inverse_j * inverse_j * w->along[j] + inverse_k * inverse_k * along_k);
            }
            vec s0 = {0}, s1 = {0}, sc = {0}, t = {0};
            for (int e = 0, n = 0; e < g->n_eta; e++) {
                const REAL *factor = w->factor + (size_t)g->factor[e] * room, eta = (REAL)g->eta[e];
                vec bare = factor[j] * NAME(load)(factor + k);
                if (four) bare *= NAME(exponential)(-eta * (shifted ? tjk * tjk : rjk2));
                vec amplitude = bare * f;
                if (mode == VALUES) {
                    for (; n < g->end[e]; n++) w->value[n] += amplitude * w->power[g->power[n]];
                } else if (mode == VJP) {
                    vec p = {0}, dp = {0};
                    for (; n < g->end[e]; n++) {
                        p += w->weight[n] * w->power[g->power[n]];
                        dp += w->weight[n] * w->d_power[g->power[n]];
                    }
                    vec level = amplitude * p;
                    s0 += level;
                    s1 += eta * level;
                    sc += amplitude * dp;
                    t += bare * p;
                } else if (mode == JVP) {
                    vec change = amplitude * (alpha - eta * (beta + (REAL)(four ? 2 : 0) * gamma * mjk))
                                 + (REAL)2 * bare * df * gamma;
                    for (; n < g->end[e]; n++)
                        w->value[n] += change * w->power[g->power[n]] + amplitude * delta * w->d_power[g->power[n]];
                } else {
                    const REAL of_j = slope_j - eta * m_j;
                    vec of_k = slope_k - eta * m_k;
                    vec of_t = df * bare - (four ? eta * mjk * amplitude : (vec){0});
                    for (; n < g->end[e]; n++) {
                        const REAL scale = (REAL)g->scale[n];
                        vec p = scale * w->power[g->power[n]], dp = scale * w->d_power[g->power[n]];
                        vec level = amplitude * p, bend = amplitude * dp, tt = (REAL)2 * of_t * p;
                        vec d = bend * inverse_j * inverse_k - tt;
                        vec uk = level * of_k - bend * c * inverse_k * inverse_k + tt;
                        vec uj = level * of_j - bend * c * inverse_j * inverse_j + tt;
                        w->value[n] += amplitude * w->power[g->power[n]];
                        REAL *to = w->jacobian + (size_t)(first + n) * 4 * room + k;
                        NAME(store)(to, NAME(load)(to) + uk);
                        NAME(store)(to + room, NAME(load)(to + room) + d * xj);
                        NAME(store)(to + 2 * room, NAME(load)(to + 2 * room) + d * yj);
                        NAME(store)(to + 3 * room, NAME(load)(to + 3 * room) + d * zj);
                        w->row[4 * n] += uj;
                        w->row[4 * n + 1] += d * xk;
                        w->row[4 * n + 2] += d * yk;
                        w->row[4 * n + 3] += d * zk;
                    }
                }
            }
            if (mode == VJP) {
                vec tt = (REAL)2 * (df * t - (four ? s1 * mjk : (vec){0})), scc = sc * c;
                vec d = sc * inverse_j * inverse_k - tt;
                vec uk = s0 * slope_k - s1 * m_k - scc * inverse_k * inverse_k + tt;
                sum_u += s0 * slope_j - s1 * m_j - scc * (inverse_j * inverse_j) + tt;
                NAME(store)(w->sum_u + k, NAME(load)(w->sum_u + k) + uk);
                NAME(store)(w->sum_x + k, NAME(load)(w->sum_x + k) + d * xj);
                NAME(store)(w->sum_y + k, NAME(load)(w->sum_y + k) + d * yj);
                NAME(store)(w->sum_z + k, NAME(load)(w->sum_z + k) + d * zj);
                sum_x += d * xk;
                sum_y += d * yk;
                sum_z += d * zk;
            }
        }
        if (mode == VJP) {
            w->sum_u[j] += NAME(sum)(sum_u);
            w->sum_x[j] += NAME(sum)(sum_x);
            w->sum_y[j] += NAME(sum)(sum_y);
            w->sum_z[j] += NAME(sum)(sum_z);
        }
        if (mode == JACOBIAN)
            for (int n = 0; n < g->n; n++)
                for (int q = 0; q < 4; q++)
                    w->jacobian[((size_t)(first + n) * 4 + (size_t)q) * room + j] += NAME(sum)(w->row[4 * n + q]);
    }
    if (mode != VJP)
        for (int n = 0; n < g->n; n++) out[g->column[n]] += (REAL)g->scale[n] * NAME(sum)(w->value[n]);
}

/* One centre. `values` is its row of G (VALUES, JACOBIAN) or of dG (JVP); `cotangent` its row of dE/dG. */
INLINE void NAME(centre)(int mode, Work *w, const Plan *plan, const Centre *centre, int64_t first, int64_t last,
                         const int64_t *neighbor, const int64_t *numbers, const REAL *vectors, const REAL *in,
                         REAL *values, REAL *to_edges, int64_t columns) {
    for (int s = 0; s < centre->n_shell; s++) {
        const Shell *shell = &centre->shell[s];
        NAME(fill)(mode, w, plan, shell, first, last, neighbor, numbers, vectors, in);
        int column = 0;
        if (mode == JACOBIAN) memset(w->jacobian, 0, sizeof(REAL) * (size_t)columns * 4 * w->room);
        for (int g = 0; g < shell->n_radial; g++) {
            NAME(radial)(mode, w, &shell->radial[g], in, values, column);
            column += shell->radial[g].n;
        }
        for (int g = 0; g < shell->n_angular; g++) {
            const Angular *angular = &shell->angular[g];
            if (angular->has_rjk) NAME(angular)(mode, 1, w, plan, shell, angular, in, values, column);
            else NAME(angular)(mode, 0, w, plan, shell, angular, in, values, column);
            column += angular->n;
        }
        for (int m = 0; m < w->length && mode == VJP; m++) {
            if (w->edge[m] < 0) continue;
            REAL *to = to_edges + 3 * w->edge[m];
            to[0] += w->sum_u[m] * w->x[m] + w->sum_x[m];
            to[1] += w->sum_u[m] * w->y[m] + w->sum_y[m];
            to[2] += w->sum_u[m] * w->z[m] + w->sum_z[m];
        }
        if (mode != JACOBIAN) continue;
        for (int m = 0; m < w->length; m++) {
            if (w->edge[m] < 0) continue;
            const REAL *from = w->jacobian + m;
            REAL *row = to_edges + 3 * columns * w->edge[m];
            for (int g = 0; g < shell->n_radial + shell->n_angular; g++) {
                const int is_radial = g < shell->n_radial;
                const int n = is_radial ? shell->radial[g].n : shell->angular[g - shell->n_radial].n;
                const int64_t *at = is_radial ? shell->radial[g].column : shell->angular[g - shell->n_radial].column;
                for (int q = 0; q < n; q++, from += 4 * w->room) {
                    REAL *to = row + 3 * at[q];
                    to[0] = from[0] * w->x[m] + from[w->room];
                    to[1] = from[0] * w->y[m] + from[2 * w->room];
                    to[2] = from[0] * w->z[m] + from[3 * w->room];
                }
            }
        }
    }
}

typedef void (*NAME(Routine))(Work *, const Plan *, const Centre *, int64_t, int64_t, const int64_t *, const int64_t *,
                              const REAL *, const REAL *, REAL *, REAL *, int64_t);
#define ROUTINE(name, mode)                                                                                             \
    static void NAME(name)(Work * w, const Plan *plan, const Centre *centre, int64_t first, int64_t last,               \
                           const int64_t *neighbor, const int64_t *numbers, const REAL *vectors, const REAL *in,        \
                           REAL *values, REAL *to_edges, int64_t columns) {                                             \
        NAME(centre)(mode, w, plan, centre, first, last, neighbor, numbers, vectors, in, values, to_edges, columns);    \
    }
ROUTINE(centre_values, VALUES)
ROUTINE(centre_vjp, VJP)
ROUTINE(centre_jvp, JVP)
ROUTINE(centre_jacobian, JACOBIAN)

#define GRAPH                                                                                                           \
    const int64_t *ints, int64_t n_ints, const double *reals, int64_t n_atoms, int64_t n_edges, const int64_t *i,       \
        const int64_t *j, const int64_t *numbers, int64_t columns, int n_threads, const REAL *vectors

/* All centres. Outputs are zeroed by the caller. Returns 0, or 1 when out of memory. */
static int NAME(all)(int mode, NAME(Routine) routine, GRAPH, const REAL *in, REAL *values, REAL *to_edges) {
    Plan plan;
    int64_t *first = malloc(sizeof(int64_t) * (size_t)(n_atoms + 1)), longest = 0;
    if (!first || !read_plan(&plan, ints, n_ints, reals)) {
        free(first);
        return 1;
    }
    int failed = 0;
    int64_t next = 0;
    for (int64_t a = 0, e = 0; a <= n_atoms; a++) {
        while (e < n_edges && i[e] < a) e++;
        first[a] = e;
        if (a && e - first[a - 1] > longest) longest = e - first[a - 1];
    }
#ifdef _OPENMP
#pragma omp parallel num_threads(n_threads) if (n_threads > 1)
#endif
    {
        Work work;
        if (!NAME(new_work)(&work, &plan, longest, mode, columns)) {
#ifdef _OPENMP
#pragma omp atomic write
#endif
            failed = 1;
        } else {
            for (;;) { /* a few centres at a time, whoever is free */
                int64_t begin;
#ifdef _OPENMP
#pragma omp atomic capture
#endif
                { begin = next; next += 4; }
                for (int64_t a = begin; a < begin + 4 && a < n_atoms; a++) {
                    const int64_t c = look_up(plan.centre_of, numbers[a]);
                    if (c < 0) continue;
                    routine(&work, &plan, &plan.centre[c], first[a], first[a + 1], j, numbers, vectors,
                            mode == VJP ? in + a * columns : in, values ? values + a * columns : NULL, to_edges, columns);
                }
                if (begin + 4 >= n_atoms) break;
            }
            free(work.memory);
        }
    }
    free_plan(&plan);
    free(first);
    return failed;
}

#define PASS(mode, routine, in, values, to_edges)                                                                       \
    NAME(all)(mode, NAME(routine), ints, n_ints, reals, n_atoms, n_edges, i, j, numbers, columns, n_threads, vectors,   \
              in, values, to_edges)

/* G [N, K] */
int NAME(symmetry_values)(GRAPH, REAL *values) { return PASS(VALUES, centre_values, NULL, values, NULL); }

/* dE/dr_ij [E, 3] from dE/dG [N, K] */
int NAME(symmetry_vjp)(GRAPH, const REAL *cotangent, REAL *gradient) {
    return PASS(VJP, centre_vjp, cotangent, NULL, gradient);
}

/* dG [N, K] along a tangent of r_ij [E, 3] */
int NAME(symmetry_jvp)(GRAPH, const REAL *tangent, REAL *change) {
    return PASS(JVP, centre_jvp, tangent, change, NULL);
}

/* G [N, K] and dG/dr_ij [E, K, 3] */
int NAME(symmetry_jacobian)(GRAPH, REAL *values, REAL *jacobian) {
    return PASS(JACOBIAN, centre_jacobian, NULL, values, jacobian);
}

#undef ROUTINE
#undef VL
#undef vec
#undef ivec
#undef Work
#undef GRAPH
#undef PASS
#endif
