/* math.h - declarations for builds without a C library. What the CPU has as an instruction
 * compiles to it; any other call fails to link, with an error that names the function. */
#ifndef MIDGE_BARE_MATH_H
#define MIDGE_BARE_MATH_H

#define INFINITY (__builtin_inff())
#define NAN (__builtin_nanf(""))
#define isnan(x) (__builtin_isnan(x))
#define isinf(x) (__builtin_isinf(x))
#define isfinite(x) (__builtin_isfinite(x))

float ceilf(float x);
float cosf(float x);
float erff(float x);
float expf(float x);
float expm1f(float x);
float fabsf(float x);
float floorf(float x);
float fmaf(float x, float y, float z);
float fmaxf(float x, float y);
float fminf(float x, float y);
float ldexpf(float x, int exponent);
float log1pf(float x);
float logf(float x);
long lrintf(float x);
float powf(float x, float y);
float rintf(float x);
float roundf(float x);
float sinf(float x);
float sqrtf(float x);
float tanhf(float x);
float truncf(float x);
double fabs(double x);
double floor(double x);
double round(double x);
double sqrt(double x);

#endif /* MIDGE_BARE_MATH_H */
