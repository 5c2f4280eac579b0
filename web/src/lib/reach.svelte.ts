/** Whether the server answers; what asks for something says so. */
class Reach {
  away = $state(false)
}

export const reach = new Reach()
