/* The lecture's 2-2-3-2 sigmoid network, its loss and plain gradient descent as C loops, to compare the
   engine with. Values are stored node by node, with a number for each of the ten points. */
#include <math.h>

enum { POINTS = 10, LAYERS = 3, WIDEST = 3 };
static const int width[LAYERS + 1] = {2, 2, 3, 2};

void sgd(double *weights, const double *x, const double *y, double rate, double scale, long steps, double *losses)
{
    double value[LAYERS + 1][WIDEST][POINTS], delta[LAYERS + 1][WIDEST][POINTS];
    double *matrix[LAYERS], *bias[LAYERS];
    for (int l = 0; l < LAYERS; l++) {
        matrix[l] = weights;
        bias[l] = weights + width[l] * width[l + 1];
        weights = bias[l] + width[l + 1];
    }
    for (int i = 0; i < width[0]; i++)
        for (int p = 0; p < POINTS; p++)
            value[0][i][p] = x[i * POINTS + p];

    for (long step = 0; step < steps; step++) {
        for (int l = 0; l < LAYERS; l++)
            for (int o = 0; o < width[l + 1]; o++)
                for (int p = 0; p < POINTS; p++) {
                    double z = bias[l][o];
                    for (int i = 0; i < width[l]; i++)
                        z += matrix[l][o * width[l] + i] * value[l][i][p];
                    value[l + 1][o][p] = 1 / (1 + exp(-z));
                }

        double loss = 0;
        for (int o = 0; o < width[LAYERS]; o++)
            for (int p = 0; p < POINTS; p++) {
                double out = value[LAYERS][o][p], error = out - y[o * POINTS + p];
                loss += error * error;
                delta[LAYERS][o][p] = 2 * scale * error * out * (1 - out);
            }
        losses[step] = scale * loss;

        for (int l = LAYERS - 1; l >= 0; l--) {
            for (int i = 0; l > 0 && i < width[l]; i++)
                for (int p = 0; p < POINTS; p++) {
                    double sum = 0;
                    for (int o = 0; o < width[l + 1]; o++)
                        sum += matrix[l][o * width[l] + i] * delta[l + 1][o][p];
                    delta[l][i][p] = sum * value[l][i][p] * (1 - value[l][i][p]);
                }
            for (int o = 0; o < width[l + 1]; o++) {
                double gradient = 0;
                for (int p = 0; p < POINTS; p++)
                    gradient += delta[l + 1][o][p];
                bias[l][o] -= rate * gradient;
                for (int i = 0; i < width[l]; i++) {
                    gradient = 0;
                    for (int p = 0; p < POINTS; p++)
                        gradient += delta[l + 1][o][p] * value[l][i][p];
                    matrix[l][o * width[l] + i] -= rate * gradient;
                }
            }
        }
    }
}
